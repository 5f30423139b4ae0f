"""A temporary folder that ends with the object that has it."""

import shutil
import tempfile
import weakref
from pathlib import Path


class TemporaryFolder:
    """A new folder, which is removed when this object is no longer used, or the program ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="elman-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

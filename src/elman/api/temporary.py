"""A temporary folder that is removed with the object that owns it."""

import shutil
import tempfile
import weakref
from pathlib import Path


class TemporaryFolder:
    """A new folder; it is removed when this object is no longer used or the program ends.

    `keep()` keeps it for good, where an error says what is in it.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="elman-"))
        removal = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
        self.keep = removal.detach

"""A temporary folder that is removed with the object that owns it."""

import shutil
import tempfile
import weakref
from pathlib import Path


class TemporaryFolder:
    """A new folder; it is removed when this object is no longer used or the program ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="elman-"))
        self._removal = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def keep(self) -> None:
        """Keep the folder for good unless it is empty: an error says how to resume with it."""
        if any(self.path.iterdir()):
            self._removal.detach()

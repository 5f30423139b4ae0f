"""The engine's kernels, from the registers up, compiled by Numba, which is imported here first."""

import sys
import warnings
from importlib import import_module
from typing import Any


def _numba() -> Any:
    """Numba, without the settings that lie in the current folder, whoever has put them there.

    It would read a file there, as it is imported and whenever it compiles: not if it finds no
    library to read YAML with, and then knows of no name for the file.
    """
    if "numba" in sys.modules:  # imported by the user, with the settings that it then had
        return import_module("numba")
    yaml = sys.modules.pop("yaml", None)
    sys.modules["yaml"] = None  # type: ignore[assignment]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "A Numba config file is found")
            numba = import_module("numba")
    finally:
        del sys.modules["yaml"]
        if yaml is not None:
            sys.modules["yaml"] = yaml
    numba.config._config_fname = ""
    return numba


numba = _numba()

"""Kernels are compiled as a whole, or function by function where Numba cannot."""

import os
import subprocess
import sys
from pathlib import Path

WITHOUT = """
from elman.kernels import numba
from numba.core import codegen

codegen.JITCodeLibrary = type("Library", (), {})  # without the methods that are replaced
from elman.kernels.codegen.cache import kernel
from elman.kernels.codegen.linking import INNER, OPTIONS, inner

@inner
def double(x):
    return 2 * x

assert INNER is OPTIONS
print(kernel(lambda x: double(x))(21))
"""


def test_a_numba_that_cannot_compile_as_a_whole_compiles_function_by_function(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kept")},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr

"""Nothing heavy is loaded before it is needed."""

import subprocess
import sys

HEAVY = ("numba", "torch", "tensorflow", "jax", "mxnet", "matplotlib", "IPython", "ssl")


def loaded_after(code: str) -> list[str]:
    names = f"print([name for name in {HEAVY} if name in sys.modules])"
    command = [sys.executable, "-c", f"import sys\n{code}\n{names}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(eval(done.stdout.splitlines()[-1]))


def test_importing_elman_and_its_command_line_loads_no_framework() -> None:
    assert loaded_after("import elman, elman.cli") == []
    assert loaded_after("import elman.numpy") == []


def test_help_loads_no_framework() -> None:
    code = (
        "sys.argv[1:] = ['--help']\nfrom elman.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code"
    )
    assert loaded_after(code) == []

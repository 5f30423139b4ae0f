"""Nothing heavy is loaded before it is needed."""

import subprocess
import sys
from pathlib import Path

HEAVY = ("numba", "torch", "tensorflow", "jax", "mxnet", "matplotlib", "IPython", "ssl")


def loaded_after(code: str) -> list[str]:
    names = f"print([name for name in {HEAVY} if name in sys.modules])"
    command = [sys.executable, "-c", f"import sys\n{code}\n{names}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(eval(done.stdout.splitlines()[-1]))


def command(*words: str) -> str:
    """Code that runs a command of elman."""
    return (
        f"sys.argv[1:] = {words}\nfrom elman.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code"
    )


def test_importing_elman_and_its_command_line_loads_nothing_heavy() -> None:
    assert loaded_after("import elman, elman.cli") == []
    assert loaded_after("import elman.numpy") == []


def test_help_loads_nothing_heavy() -> None:
    assert loaded_after(command("--help")) == []


def test_a_training_does_not_load_openssl(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("It was a story. " * 50)
    words = ("train", f"{tmp_path}/a.txt", "--framework", "numpy", "--epochs", "1", "--hidden", "4")
    assert "ssl" not in loaded_after(command(*words, "--out", f"{tmp_path}/run"))

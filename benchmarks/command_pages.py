"""The commands of the documentation's pages, run as a reader would, with what they print.

    python benchmarks/command_pages.py

runs the commands of all console blocks in the order of the pages, in one folder, and writes their
output below them. It takes about three minutes.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = re.compile(r": (\S+\.md)$", re.MULTILINE)  # in the navigation of the site
BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
ROW = r"^(?:epoch \d|\d+:\d\d  ).*\n"  # of the progress of a training
EPOCHS = re.compile(rf"({ROW}{ROW})(?:{ROW}){{2,}}({ROW})", re.MULTILINE)
NOTICE = re.compile(r"^elman: compiling kernels .*\n", re.MULTILINE)


def pages() -> list[Path]:
    """The pages of the site, in the order of its navigation."""
    return [ROOT / "docs" / name for name in PAGE.findall((ROOT / "mkdocs.yml").read_text())]


def transcripts(block: str) -> list[tuple[str, str]]:
    """Commands of a block, and the output that stands below each."""
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    found = [part.partition("\n") for part in parts]
    return [(command, output) for command, _, output in found]


def run(command: str, folder: Path) -> str:
    """Run a command of the shell; what it prints, without the middle of many epochs."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    print(f"$ {command}", flush=True)
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stdout)
    return EPOCHS.sub(r"\1...\n\2", NOTICE.sub("", done.stdout))


def main() -> None:
    """Write the output of all commands into their pages."""
    with tempfile.TemporaryDirectory() as folder:

        def filled(block: re.Match[str]) -> str:
            commands = [command for command, _ in transcripts(block[0])]
            return "".join(f"$ {command}\n{run(command, Path(folder))}" for command in commands)

        for page in pages():
            page.write_text(BLOCK.sub(filled, page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()

"""Parts of the output that several programs share: machine, tables, plots."""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def processor() -> str:
    """Name of the processor; on Linux the model."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return names[0] if names else platform.processor()


def print_machine(pythons: Mapping[str, str]) -> None:
    """Print processor, cores, and the version of each package in the environment it runs in.

    - `pythons`: interpreter of each package.
    """
    found = [f"{os.cpu_count()} cores ({processor()})"]
    for name, python in pythons.items():
        command = [python, "-c", f"import importlib.metadata as m; print(m.version({name!r}))"]
        done = subprocess.run(command, capture_output=True, text=True)
        found.append(f"{name} {done.stdout.strip()}" if not done.returncode else f"no {name}")
    print(f"{', '.join(found)}\n", flush=True)


def print_header(columns: Sequence[str]) -> None:
    """Print the head of a Markdown table."""
    print_row(columns)
    print("|---" * len(columns) + "|", flush=True)


def print_row(cells: Iterable[object]) -> None:
    """Print a row of a Markdown table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def print_rows(script: str, names: Iterable[str], *options: str) -> None:
    """Print the rows of each framework, NAME or NAME=INTERPRETER.

    They come from `script --rows NAME`, with further options.
    """
    for name in names:
        framework, _, python = name.partition("=")
        subprocess.run(
            [python or sys.executable, script, "--rows", framework, *options], check=True
        )


def save_plot(figure: Any, axes: Any, path: str) -> None:
    """Save a plot with its legend at the right and no frame."""
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=150)

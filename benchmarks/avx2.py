"""The engine and PyTorch with AVX2 beside the processor's widest vectors.

    python benchmarks/avx2.py [--rounds N] [--torch INTERPRETER]

On a processor with AVX-512, environment variables keep Numba and PyTorch to AVX2. The table of
updates has the models of sizes.py; the table of texts has 1,000 characters, written one after the
other, 32 texts of 100 characters written together, and a million characters scored. The contenders
take turns, each in a process of its own that is stopped while another works. Prints medians, and
shares of the most multiply-adds that a loop without loads makes with the same vectors.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from contender import program
from limits import Job
from reporting import print_header, print_machine, print_row
from sizes import WORDS, milliseconds, shown, sizes_of
from turns import Contender, Work, answer, started, take_turns

from elman.core.model.weights import initial
from frameworks import ENVIRONMENT

JOBS = [
    *(Job(cell, 128, 64, 64) for cell in ("rnn", "gru", "lstm")),
    *(Job(cell, 256, 64, 64) for cell in ("gru", "lstm")),
    Job("rnn", 32, 1024, 32),
    WORDS[0],
]
TEXTS = [  # title, work, hidden units
    ("1,000 characters", "write", 32),
    ("1,000 characters", "write", 256),
    ("32 texts of 100 characters", "together", 256),
    ("a million characters scored", "score", 256),
]
ROUNDS_OF_TEXTS = 3
UPDATES = Path(__file__).with_name("updates.py")
STEPS = 1 << 18  # multiply-adds of each sum in a turn of the peak
TURNS = 400


def avx2() -> dict[str, str]:
    """Environment that keeps libraries to AVX2."""
    names = llvm.get_host_cpu_features().flatten().split(",")
    without = [name for name in names if not name.startswith(("+avx512", "+avx10"))]
    return {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": ",".join([*without, "-avx512f"]),
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    }


def compare(command: list[str], theirs: list[str], rounds: int) -> dict[str, float]:
    """Median seconds by contender, with AVX2 and without that bound."""
    contenders: dict[str, Contender] = {}
    for suffix, env in ((", AVX2", avx2()), ("", {})):
        commands = {f"engine{suffix}": command}
        if theirs:
            commands[f"torch{suffix}"] = theirs
        contenders |= started(commands, ENVIRONMENT | env)
    seconds = take_turns(contenders, rounds)
    return {name: statistics.median(values) for name, values in seconds.items()}


def updates(rounds: int, python: str) -> None:
    """Print the table of updates."""
    peaks = [multiply_adds(env) for env in (avx2(), {})]
    print(f"multiply-adds: {peaks[0] / 1e9:.0f} GFLOP/s with AVX2, {peaks[1] / 1e9:.0f} without\n")
    sizes = ("cell", "hidden", "batch", "steps")
    columns = ("engine", "PyTorch", "times", "share of the peak")
    print_header([*sizes, *(f"AVX2: {name}" for name in columns), *columns])
    for job in JOBS:
        command = [sys.executable, str(UPDATES), "engine", *job.words]
        seconds = compare(command, [python, str(UPDATES), "torch", *job.words], rounds)
        cells: list[str] = []
        for suffix, peak in zip((", AVX2", ""), peaks, strict=True):
            mine, torch = (seconds.get(f"{name}{suffix}", math.nan) for name in ("engine", "torch"))
            cells += [milliseconds(mine), milliseconds(torch), shown(torch / mine, "{:.1f}")]
            cells.append(shown(job.operations / mine / peak, "{:.2f}"))
        print_row([*sizes_of(job), *cells])
    print()


def texts() -> None:
    """Print the table of texts."""
    print_header(["work", "hidden", "AVX2", "AVX-512", "times longer"])
    for title, work, hidden in TEXTS:
        command = [sys.executable, __file__, "--contender", work, str(hidden)]
        seconds = compare(command, [], ROUNDS_OF_TEXTS)
        narrow, wide = seconds["engine, AVX2"], seconds["engine"]
        ratio = f"{narrow / wide:.2f}"
        print_row([title, hidden, milliseconds(narrow), milliseconds(wide), ratio])


def text_work(work: str, hidden: int) -> Work:
    """The engine's work on texts."""
    if work != "together":
        return program("numba", "elman", work, hidden)
    from elman import numba
    from elman.core.model.sampling import Sampler

    arch = Job("rnn", hidden, 1, 1).arch
    model = numba.build(arch, initial(arch))
    return lambda: list(model.generate_ids([[1]] * 32, 100, Sampler(), 0))


def multiply_adds(env: dict[str, str]) -> float:
    """Most operations in a second, on all cores, with an environment."""
    command = [sys.executable, __file__, "--peak"]
    done = subprocess.run(command, env=os.environ | env, capture_output=True, check=True)
    return float(done.stdout)


def measured_peak() -> float:
    """Most operations in a second on all cores, of twelve sums in registers for each thread."""
    from numba import njit

    import elman.kernels.codegen.tile_math  # noqa: F401 - the operators on tiles
    from elman.kernels.codegen.processor import host_shape
    from elman.kernels.codegen.tile_builder import align_stack
    from elman.kernels.codegen.tile_memory import fill, store
    from elman.kernels.codegen.tile_types import TileShape, at
    from elman.kernels.host.threads import parallel_for

    @njit(nogil=True)
    def repeat(S: Any, times: Any, factor: Any, out: Any) -> None:
        align_stack()
        sums, x = fill(S, factor), fill(S, factor)
        for _ in range(times):
            sums = sums * x + x
        store(sums, at(out, 0, 0))

    shape, threads = TileShape(6, 2, host_shape().lanes), os.cpu_count() or 1
    half = np.float32(0.5)
    outs = [np.zeros((shape.rows, shape.width), np.float32) for _ in range(threads)]
    repeat(shape, 1, half, outs[0])
    best = 0.0
    for _ in range(TURNS):
        began = time.perf_counter()
        parallel_for(lambda n: repeat(shape, STEPS, half, outs[n]), threads)
        rate = threads * 2 * shape.rows * shape.width * STEPS / (time.perf_counter() - began)
        best = max(best, rate)
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--torch", default=sys.executable)
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--contender", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peak:
        print(measured_peak())
    elif asked.contender:
        work, hidden = asked.contender
        answer(lambda: text_work(work, int(hidden)), 1)
    else:
        print_machine({"numba": sys.executable, "torch": asked.torch})
        updates(asked.rounds, asked.torch)
        texts()


if __name__ == "__main__":
    main()

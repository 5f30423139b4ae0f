"""The engine and PyTorch with AVX2 beside the processor's widest vectors.

    python benchmarks/avx2.py [--rounds N] [--torch INTERPRETER]

On a processor with AVX-512, environment variables limit Numba and PyTorch to AVX2. On another one
nothing is limited, and AVX-512 has no columns. The table of updates has the models of sizes.py; the
table of texts has 1,000 characters, written one after the other, 32 texts of 100 characters written
together, and a million characters scored. The contenders take turns, each in a process of its own
that is stopped while another works. The peak is the rate of multiply-adds in a loop without loads;
it takes turns, too, since a processor's clock varies, and so does NumPy's product of two matrices.
Prints medians of seconds and of a round's ratios. The fastest rounds are shown too, because other
programs slow most rounds.
"""

import argparse
import math
import os
import sys
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from contender import program
from limits import Job
from numpy.typing import NDArray
from reporting import print_header, print_machine, print_row
from sizes import WORDS, milliseconds, shown, sizes_of
from turns import Contender, Work, answer, started, take_turns

from elman.model.weights import initial
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
OPERATIONS = 1e9  # of each thread's multiply-adds in registers, which take about 10 ms
SIZE = 1024  # rows and columns of NumPy's matrices
ABSENT = np.array([math.nan])


def environments() -> dict[str, dict[str, str]]:
    """Environments by the vectors that libraries use in them."""
    names = llvm.get_host_cpu_features().flatten().split(",")
    without = [name for name in names if not name.startswith(("+avx512", "+avx10"))]
    if "+avx2" not in names:
        raise SystemExit("this program requires a processor with AVX2")
    if without == names:
        return {"AVX2": {}}
    return {"AVX2": avx2(without), "AVX-512": {"OPENBLAS_CORETYPE": "SkylakeX"}}


def avx2(features: list[str]) -> dict[str, str]:
    """Environment that keeps libraries to AVX2 on a processor that has more than these features."""
    return {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": ",".join([*features, "-avx512f"]),
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
    }


def compare(commands: dict[str, list[str]], rounds: int) -> dict[str, dict[str, NDArray[Any]]]:
    """Seconds of each round by vectors and by name of the command; NaN for what fails."""
    contenders: dict[tuple[str, str], Contender] = {}
    for vectors, env in environments().items():
        found = started(commands, ENVIRONMENT | env)
        contenders |= {(vectors, name): contender for name, contender in found.items()}
    seconds = {vectors: dict.fromkeys(commands, ABSENT) for vectors in environments()}
    for (vectors, name), values in take_turns(contenders, rounds).items():
        seconds[vectors][name] = np.array(values)
    return seconds


def updates(rounds: int, python: str) -> None:
    """Print the table of updates."""
    sizes = ("cell", "hidden", "batch", "steps")
    columns = ("engine", "PyTorch", "times", "of the peak", "fastest", "of NumPy's product")
    print_header(
        [*sizes, *(f"{vectors}: {name}" for vectors in environments() for name in columns)]
    )
    peaks: dict[str, list[float]] = {vectors: [] for vectors in environments()}
    for job in JOBS:
        commands = {
            "engine": [sys.executable, str(UPDATES), "engine", *job.words],
            "torch": [python, str(UPDATES), "torch", *job.words],
            "peak": [sys.executable, __file__, "--peak"],
            "product": [sys.executable, __file__, "--product"],
        }
        cells: list[str] = []
        for vectors, found in compare(commands, rounds).items():
            mine, torch = found["engine"], found["torch"]
            cells += [milliseconds(np.median(mine)), milliseconds(np.median(torch))]
            cells.append(shown(float(np.median(torch / mine)), "{:.1f}"))
            peak = OPERATIONS * (os.cpu_count() or 1) / found["peak"]
            cells.append(shown(float(np.median(job.operations / mine / peak)), "{:.2f}"))
            cells.append(shown(job.operations / mine.min() / peak.max(), "{:.2f}"))
            rate = 2 * SIZE**3 / found["product"]
            cells.append(shown(float(np.median(job.operations / mine / rate)), "{:.2f}"))
            peaks[vectors].append(float(np.median(peak)))
        print_row([*sizes_of(job), *cells])
    for vectors, rates in peaks.items():
        print(f"\npeak, {vectors}: {min(rates) / 1e9:.0f} to {max(rates) / 1e9:.0f} GFLOP/s")
    print()


def texts() -> None:
    """Print the table of texts."""
    names = [*environments()]
    print_header(["work", "hidden", *names, *["times longer"] * (len(names) - 1)])
    for title, work, hidden in TEXTS:
        command = [sys.executable, __file__, "--contender", work, str(hidden)]
        found = compare({"engine": command}, ROUNDS_OF_TEXTS)
        narrow, *wider = (each["engine"] for each in found.values())
        seconds = [milliseconds(np.median(each)) for each in (narrow, *wider)]
        print_row([title, hidden, *seconds, *(f"{np.median(narrow / each):.2f}" for each in wider)])


def text_work(work: str, hidden: int) -> Work:
    """The engine's work on texts."""
    if work != "together":
        return program("numba", "elman", work, hidden)
    from elman import numba
    from elman.inference.sampling import Sampler

    arch = Job("rnn", hidden, 1, 1).arch
    model = numba.build(arch, initial(arch))
    return lambda: list(model.generate_ids([[1]] * 32, 100, Sampler(), 0))


def registers(threads: int) -> Work:
    """OPERATIONS on each of some threads: twelve sums in registers, without loads."""
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

    lanes = host_shape().lanes
    shape, half = TileShape(6, 2, lanes), np.float32(0.5)
    times = round(OPERATIONS / (2 * shape.rows * shape.width))
    outs = [np.zeros((shape.rows, shape.width), np.float32) for _ in range(threads)]
    return lambda: parallel_for(lambda n: repeat(shape, times, half, outs[n]), threads)


def product() -> Work:
    """NumPy's product of two matrices, on all cores."""
    matrix = np.ones((SIZE, SIZE), np.float32)
    out = np.empty_like(matrix)
    return lambda: np.matmul(matrix, matrix, out=out)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--torch", default=sys.executable)
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--product", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--contender", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peak:
        answer(lambda: registers(os.cpu_count() or 1), 1)
    elif asked.product:
        answer(product, 1)
    elif asked.contender:
        work, hidden = asked.contender
        answer(lambda: text_work(work, int(hidden)), 1)
    else:
        print_machine({"numba": sys.executable, "torch": asked.torch})
        updates(asked.rounds, asked.torch)
        texts()


if __name__ == "__main__":
    main()

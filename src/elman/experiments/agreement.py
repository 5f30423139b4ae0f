"""Facts that all workers must have in common, and the checkpoint that they continue from.

Workers on different processors, or with different versions of a framework, round differently. Their
weights would drift apart, since each worker updates its own copy.
"""

import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

from elman.errors import ElmanError
from elman.experiments.train import Training
from elman.runs.records import RunSettings
from elman.runs.run_folder import CHECKPOINTS
from elman.training.checkpoint import Checkpoint, path_of, read, read_newest
from elman.training.workers.hosts import check_same
from elman.training.workers.processes import Workers

SAME_COMMAND = "type the same command on all hosts"
PATHS = "text", "more_texts", "val", "test", "init"  # may differ: the first worker's are read
# Variables of the numbers of threads that results may depend on. The engine's do not.
THREADS = {"numpy": "OMP_NUM_THREADS", "torch": "OMP_NUM_THREADS", "jax": "NPROC"}
CHECKPOINT, NOTHING = "checkpoint", "none"  # a fact: its updates, if there is one
PART_BYTES = 1 << 20  # of a checkpoint, sent by all to all: slow links must not take a minute


def agreed(workers: Workers, training: Training, folder: Path) -> Checkpoint | None:
    """The checkpoint from which all workers continue; None to begin.

    It is the newest in the run directory `folder` of the first worker. Workers that have none there
    receive it. Raises a HostError unless all workers can continue to the same bits.
    """
    begun = read_newest(folder / CHECKPOINTS)
    if workers.size == 1:
        return begun
    updates = NOTHING if begun is None else str(begun[1].updates)
    own = {**_facts(training), CHECKPOINT: updates}
    found = [json.loads(content) for content in workers.gather(json.dumps(own).encode())]
    first = found[0][CHECKPOINT]
    lack_it = [each for each in found if each[CHECKPOINT] == NOTHING != first]
    for each in lack_it:
        each[CHECKPOINT] = first
    check_same(workers.names, found)
    return _received(workers, folder, begun) if lack_it else begun


def _received(workers: Workers, folder: Path, begun: Checkpoint | None) -> Checkpoint | None:
    """The first worker's checkpoint, sent to all workers in parts."""
    content = b""
    if workers.rank == 0 and begun is not None:
        content = path_of(folder / CHECKPOINTS, begun[1].updates).read_bytes()
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place, "checkpoint")
        with copy.open("wb") as file:
            for start in count(0, PART_BYTES):
                part = workers.gather(content[start : start + PART_BYTES])[0]
                if not part:
                    break
                file.write(part)
        return read(copy) if begun is None else begun


def _facts(training: Training) -> dict[str, str]:
    """Facts of this worker that the bits of a training depend on, by name."""
    name, framework = training.settings.framework, training.framework
    facts = {
        f"version of {name}": framework.version(),
        "processor": _processor(name, training.trainer.gpus),
    }
    if (variable := THREADS.get(name)) is not None:
        facts[f"number of threads ({variable})"] = os.environ.get(variable) or str(_cores())
    return facts


def _cores() -> int | None:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()


def _processor(framework: str, gpus: list[Any]) -> str:
    """The processor that computes."""
    if gpus:
        gpu_name = import_module(f"elman.{framework}.workers").gpu_name
        return ", ".join(map(gpu_name, gpus))
    try:
        processor = import_module("elman.kernels.codegen.processor")
    except ImportError:  # Numba does not load
        return platform.machine()
    return str(processor.target() if framework == "numba" else processor.host())


def check_command(given: Mapping[str, Any], begun: RunSettings) -> None:
    """Raise an ElmanError unless a worker was given the settings of the first one's training."""
    for name, value in given.items():
        if name not in PATHS and (own := vars(begun.settings)[name]) != value:
            raise ElmanError(
                f"{name} must be {own}, as given to the first worker, got {value}: {SAME_COMMAND}"
            )

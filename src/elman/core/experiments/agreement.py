"""What the workers of a training must have in common, compared before the first batch.

Workers on different processors, or with different versions of a framework, round differently. Their
weights would drift apart, since each worker updates its own copy.
"""

import json
import os
import platform
import socket
from collections.abc import Mapping
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

from elman.core.errors import ElmanError
from elman.core.experiments.run import TRAINING, RunSettings
from elman.core.experiments.train import Training
from elman.core.workers.hosts import check_same
from elman.core.workers.processes import Workers

SHARE = "put it in a folder that all hosts share"
SAME_COMMAND = "type the same command on all hosts"
PATHS = "text", "more_texts", "val", "test", "init"  # may differ: the first worker's are read
HOST = "host"


def check_agreement(workers: Workers, training: Training, folder: Path, updates: str) -> None:
    """Raise a MachineError unless all workers can continue a training to the same bits.

    - `updates`: of the newest checkpoint in the run directory `folder`.
    """
    if workers.size == 1:
        return
    facts = _facts(training, folder.resolve(), updates)
    values = {name: value for name, (value, _) in facts.items()} | {HOST: socket.gethostname()}
    found = [json.loads(content) for content in workers.gather(json.dumps(values).encode())]
    hosts = [each[HOST] for each in found]
    for name, (_, cure) in facts.items():
        check_same(hosts, [each[name] for each in found], name, cure)


def _facts(training: Training, folder: Path, updates: str) -> dict[str, tuple[str, str]]:
    """What this worker has, and how all can have the same, by name."""
    name, framework = training.settings.framework, training.framework
    facts = {
        f"run directory {folder}": (_digest(folder / TRAINING), SHARE),
        f"checkpoints in {folder}": (updates, SHARE),
        f"version of {name}": (framework.version(), "install the same everywhere"),
        "processor": _processor(name, training.trainer.gpus),
    }
    if name != "numba":  # the engine's results do not depend on them
        threads = os.environ.get("OMP_NUM_THREADS") or str(os.cpu_count())
        facts["number of threads"] = threads, "set OMP_NUM_THREADS to the same number everywhere"
    return facts


def _digest(path: Path) -> str:
    """Start of the digest of a file; none if there is no file."""
    return sha256(path.read_bytes()).hexdigest()[:8] if path.exists() else "none"


def _processor(framework: str, gpus: list[Any]) -> tuple[str, str]:
    """The processor that computes, and how all workers can have the same."""
    cure = "use hosts with the same"
    if gpus:
        return "GPU", cure
    try:
        processor = import_module("elman.kernels.codegen.processor")
    except ImportError:  # Numba does not load
        return platform.machine(), cure
    if framework != "numba":
        return processor.host(), cure
    return processor.target(), f"{cure}, or set the same NUMBA_CPU_NAME and NUMBA_CPU_FEATURES"


def check_command(given: Mapping[str, Any], begun: RunSettings) -> None:
    """Raise an ElmanError unless a worker was given the settings of the first one's training."""
    for name, value in given.items():
        if name not in PATHS and (own := vars(begun.settings)[name]) != value:
            raise ElmanError(
                f"{name} must be {own}, as given to the first worker, got {value}: {SAME_COMMAND}"
            )

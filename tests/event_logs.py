"""Logs as TensorBoard reads them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


@dataclass(frozen=True)
class Log:
    """Points, (step, value) each, by tag."""

    scalars: dict[str, list[tuple[int, float]]]
    histograms: dict[str, list[tuple[int, Any]]]
    texts: dict[str, list[tuple[int, str]]]


def read_log(folder: Path) -> Log:
    """Everything that a folder's event files have."""
    every = {"scalars": 0, "histograms": 0, "tensors": 0}
    found = EventAccumulator(str(folder), size_guidance=every).Reload()
    tags = found.Tags()
    return Log(
        {t: [(p.step, p.value) for p in found.Scalars(t)] for t in tags["scalars"]},
        {t: [(p.step, p.histogram_value) for p in found.Histograms(t)] for t in tags["histograms"]},
        {
            t: [(p.step, p.tensor_proto.string_val[0].decode()) for p in found.Tensors(t)]
            for t in tags["tensors"]
        },
    )

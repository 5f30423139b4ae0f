"""Logs as TensorBoard reads them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray


@dataclass(frozen=True)
class Log:
    """Points, (step, value) each, by tag."""

    scalars: dict[str, list[tuple[int, Any]]]
    histograms: dict[str, list[tuple[int, Any]]]
    texts: dict[str, list[tuple[int, Any]]]


def read_log(folder: Path) -> Log:
    """Everything that a folder's event files have; of a step's points TensorBoard shows the last.

    A histogram is an array of buckets: left edge, right edge, number.
    """
    found = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    kinds: dict[str, dict[str, list[tuple[int, Any]]]] = {
        "scalars": {},
        "histograms": {},
        "text": {},
    }
    for tag in found.Tags()["tensors"]:
        kind = found.SummaryMetadata(tag).plugin_data.plugin_name
        points = kinds[kind][tag] = []
        for point in found.Tensors(tag):
            if points and points[-1][0] == point.step:
                points.pop()
            value = make_ndarray(point.tensor_proto)
            points.append((point.step, value.item(0).decode() if kind == "text" else value[()]))
    return Log(*kinds.values())

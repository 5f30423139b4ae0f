"""Event files, the format of TensorBoard's logs: scalars, histograms and texts at steps.

The package `tensorboard` defines the messages and the records. The writers of `tensorboard` and
`tensorboardX` run in a thread: on a full disk their errors are lost, and a training would wait.
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np

from elman.errors import escaped, not_installed
from elman.files.tensors import all_finite

try:
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # isort: skip # the name of the error
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
    from tensorboard.plugins.text.summary_v2 import text_pb
    from tensorboard.summary.writer.record_writer import RecordWriter
except ModuleNotFoundError as error:
    raise not_installed("tensorboard", error, "leave the log out") from error

PREFIX = "events.out.tfevents."
BUCKETS = 30  # of a histogram, as in TensorBoard
CODE = "    "  # prefix of a line that Markdown leaves unchanged


class EventFile:
    """A new file of events in `folder`, created if needed.

    TensorBoard drops what earlier files in the folder contain after `updates` updates: a resumed
    training writes it again. Each method may raise an OSError.
    """

    def __init__(self, folder: Path, updates: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = len([*folder.glob(f"{PREFIX}*")])  # TensorBoard reads in the order of names
        self.path = folder / f"{PREFIX}{number:010}.elman"
        self.path.open("xb").close()
        start = Event(step=updates + 1, session_log=SessionLog(status=SessionLog.START))
        self._append(Event(file_version="brain.Event:2"), start)

    def write(self, updates: int, values: Mapping[str, Any]) -> None:
        """Write numbers, the distributions of arrays, and texts by tag; flush them to the system.

        Values that are not finite are omitted.
        """
        found = [value for each in values.items() if (value := _message(*each)) is not None]
        self._append(Event(step=updates, summary=Summary(value=found)))

    def _append(self, *events: Any) -> None:
        with self.path.open("ab") as file:
            records = RecordWriter(file)
            for event in events:
                event.wall_time = time.time()
                records.write(event.SerializeToString())


def _message(tag: str, value: Any) -> Any:
    """A number, an array or a text as a message; None if it is not finite."""
    if isinstance(value, str):
        return text_pb(tag, indent(escaped(value), CODE, lambda line: True)).value[0]
    if not isinstance(value, np.ndarray):
        return Summary.Value(tag=tag, simple_value=value) if math.isfinite(value) else None
    if not all_finite(value):
        return None
    flat = value.ravel().astype(np.float64)
    counts, edges = np.histogram(flat, BUCKETS)
    histo = HistogramProto(
        min=flat.min(),
        max=flat.max(),
        num=flat.size,
        sum=flat.sum(),
        sum_squares=flat @ flat,
        bucket_limit=edges[1:],
        bucket=counts,
    )
    return Summary.Value(tag=tag, histo=histo)

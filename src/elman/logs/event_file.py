"""Event files, the format of TensorBoard's logs: scalars, histograms and texts at steps.

The package `tensorboard` defines the messages and the records. Its own writer would import
TensorFlow if it is installed. Both its writer and that of tensorboardX lose errors in a thread, and
what they purge leaves texts twice.
"""

import struct
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.errors import not_installed
from elman.files.regular import open_no_follow, size

try:
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # isort: skip # the name of the error
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
    from tensorboard.plugins.text.summary_v2 import text_pb
    from tensorboard.summary.writer.record_writer import RecordWriter
except ModuleNotFoundError as error:
    raise not_installed("tensorboard", error, "leave the log out") from error

PREFIX = "events.out.tfevents."
BUCKETS = 30  # of a histogram, as in TensorBoard


class EventFile:
    """A new file of events in `folder`, created if needed.

    Earlier files in the folder lose their events after `updates` updates, and their events at
    `updates` with a tag in `redone`: a resumed training writes these again. Each method may raise
    an OSError.
    """

    def __init__(self, folder: Path, updates: int, redone: Collection[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        files = sorted(folder.glob(f"{PREFIX}*"))  # in TensorBoard's reading order
        for path in files:
            _cut(path, updates, redone)
        self.path = folder / f"{PREFIX}{len(files):010}.elman"
        self.path.open("xb").close()
        # A running TensorBoard then drops what was removed.
        start = Event(step=updates + 1, session_log=SessionLog(status=SessionLog.START))
        self._append(Event(file_version="brain.Event:2"), start)

    def write(self, updates: int, values: Sequence[Any]) -> None:
        """Write values made by `scalar`, `histogram` and `text`, and flush them to the system."""
        self._append(Event(step=updates, summary=Summary(value=values)))

    def _append(self, *events: Any) -> None:
        with self.path.open("ab") as file:
            records = RecordWriter(file)
            for event in events:
                event.wall_time = time.time()
                records.write(event.SerializeToString())


def _cut(path: Path, updates: int, redone: Collection[str]) -> None:
    """Truncate a file at the first event that is incomplete or will be written again."""
    with open(path, "r+b", opener=open_no_follow) as file:
        end = 0
        with suppress(DecodeError):
            while len(header := file.read(12)) == 12:  # the length in 8 bytes, and its checksum
                (length,) = struct.unpack_from("<Q", header)
                if length + 4 > size(file) - file.tell():
                    break
                event = Event.FromString(file.read(length + 4)[:-4])
                tags = {value.tag for value in event.summary.value}
                if event.step > updates or (event.step == updates and not tags.isdisjoint(redone)):
                    break
                end = file.tell()
        file.truncate(end)


def scalar(tag: str, value: float) -> Any:
    """A number, stored in single precision."""
    return Summary.Value(tag=tag, simple_value=value)


def histogram(tag: str, values: NDArray[Any]) -> Any:
    """The distribution of one or more finite numbers."""
    flat = values.ravel().astype(np.float64)
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


def text(tag: str, content: str) -> Any:
    """A text in Markdown."""
    return text_pb(tag, content).value[0]

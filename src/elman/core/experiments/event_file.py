"""Event files, the format of TensorBoard's logs: scalars, histograms and texts at steps.

The package `tensorboard` defines the messages and the records. Its own writer would import
TensorFlow if it is installed, and would lose errors in a thread.
"""

import struct
import time
from collections.abc import Collection, Iterator, Sequence
from io import BufferedRandom
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.errors import not_installed
from elman.core.files.regular import open_no_follow, size

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
        for event, position in _events(file):
            tags = {value.tag for value in event.summary.value}
            if event.step > updates or (event.step == updates and not tags.isdisjoint(redone)):
                break
            end = position
        file.truncate(end)


def _events(file: BufferedRandom) -> Iterator[tuple[Any, int]]:
    """Events of a file and their end positions, up to an event truncated by a crash."""
    while len(header := file.read(12)) == 12:  # the length in 8 bytes, and its checksum
        (length,) = struct.unpack_from("<Q", header)
        record = file.read(length + 4) if length < size(file) else b""
        if len(record) < length + 4:
            return
        try:
            event = Event.FromString(record[:-4])
        except DecodeError:
            return
        yield event, file.tell()


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

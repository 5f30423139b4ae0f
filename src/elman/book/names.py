"""The book's framework-independent names, and more, for every framework's module to export."""

from collections.abc import Callable
from typing import Generic, TypeVar

from elman.book.module import HyperParameters, add_to_class, check_len, check_shape
from elman.book.plotting import ProgressBoard, plot, plt, set_figsize, show_list_len_pair_hist
from elman.book.seq2seq import bleu
from elman.files.download import DATA_URL, download, extract
from elman.model.options import fastest_precision
from elman.model.weights import Architecture
from elman.text.vocab import Vocab

__all__ = [
    "DATA_URL",
    "Architecture",
    "HyperParameters",
    "ProgressBoard",
    "Vocab",
    "add_to_class",
    "bleu",
    "check_len",
    "check_shape",
    "download",
    "extract",
    "fastest_precision",
    "plot",
    "plt",
    "set_figsize",
    "show_list_len_pair_hist",
]

Device = TypeVar("Device")


class Devices(Generic[Device]):
    """Devices of a framework; `cpu`, `gpu` and `num_gpus` are the framework's functions."""

    def __init__(
        self,
        cpu: Callable[[], Device],
        gpu: Callable[[int], Device],
        num_gpus: Callable[[], int],
    ) -> None:
        self.cpu, self.gpu, self.num_gpus = cpu, gpu, num_gpus

    def try_gpu(self, i: int = 0) -> Device:
        """The i-th GPU if there is one, otherwise the CPU."""
        return self.gpu(i) if self.num_gpus() > i else self.cpu()

    def try_all_gpus(self) -> list[Device]:
        """All GPUs; an empty list if there is none."""
        return [self.gpu(i) for i in range(self.num_gpus())]

    def names(self) -> list[str]:
        """Names of all devices that can be used here."""
        return [str(device) for device in (self.cpu(), *self.try_all_gpus())]

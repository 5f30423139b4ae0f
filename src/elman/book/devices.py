"""The book's device functions, for a framework with a CPU and numbered GPUs."""

from collections.abc import Callable
from typing import Generic, TypeVar

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

"""HyperParameters, the base of D2L's classes, and D2L's helpers."""

import inspect
from collections.abc import Callable, Sequence, Sized
from typing import TYPE_CHECKING, Any


def add_to_class(Class: type) -> Callable[[Any], None]:
    """Decorator that adds a function to `Class` as a method."""

    def wrapper(function: Any) -> None:
        setattr(Class, function.__name__, function)

    return wrapper


def check_len(a: Sized, n: int) -> None:
    """Assert that `a` has `n` elements."""
    assert len(a) == n, f"list's length {len(a)} != expected length {n}"


def check_shape(a: Any, shape: tuple[int, ...]) -> None:
    """Assert that the tensor `a` has the shape `shape`."""
    assert a.shape == shape, f"tensor's shape {a.shape} != expected shape {shape}"


class HyperParameters:
    """Base class that stores the arguments of a constructor as attributes."""

    if TYPE_CHECKING:  # attributes are unknown to type checkers

        def __getattr__(self, name: str) -> Any: ...

    def save_hyperparameters(self, ignore: Sequence[str] = ()) -> None:
        """Store the local variables of the calling method as attributes and in `hparams`.

        Omits `self`, names in `ignore` and names that begin with an underscore.
        """
        frame = inspect.currentframe()
        assert frame is not None  # CPython has frames
        assert frame.f_back is not None  # of the calling method
        ignored = {"self", *ignore}
        self.hparams = {
            name: value
            for name, value in frame.f_back.f_locals.items()
            if name not in ignored and not name.startswith("_")
        }
        for name, value in self.hparams.items():
            setattr(self, name, value)

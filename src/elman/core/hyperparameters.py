"""The base of the book's classes, and its small helpers: HyperParameters, add_to_class."""

import inspect
from collections.abc import Callable, Sequence, Sized
from typing import TYPE_CHECKING, Any


def add_to_class(Class: type) -> Callable[[Any], None]:
    """A decorator that makes the function below it a method of `Class`."""

    def wrapper(function: Any) -> None:
        setattr(Class, function.__name__, function)

    return wrapper


def check_len(a: Sized, n: int) -> None:
    """Assert that `a` has `n` elements."""
    assert len(a) == n, f"list's length {len(a)} != expected length {n}"


def check_shape(a: Any, shape: tuple[int, ...]) -> None:
    """Assert that the tensor `a` has this shape."""
    assert a.shape == shape, f"tensor's shape {a.shape} != expected shape {shape}"


class HyperParameters:
    """An object that keeps its constructor's arguments as attributes."""

    if TYPE_CHECKING:  # the names of those arguments are known to no type checker

        def __getattr__(self, name: str) -> Any: ...

    def save_hyperparameters(self, ignore: Sequence[str] = ()) -> None:
        """Keep the calling method's local names as attributes and as the dict `hparams`.

        `self`, the names in `ignore` and names that begin with an underscore are left out.
        """
        frame = inspect.currentframe()
        assert frame is not None  # CPython has frames
        assert frame.f_back is not None  # and this one was called
        left_out = {"self", *ignore}
        self.hparams = {
            name: value
            for name, value in frame.f_back.f_locals.items()
            if name not in left_out and not name.startswith("_")
        }
        for name, value in self.hparams.items():
            setattr(self, name, value)

"""The contract between the training loop and a framework: what a framework implements.

The loop (`loop.py`) makes a Step for a model and its optimizer and calls it for every batch.
`Step` is all that a framework needs to train in one process. A framework that also implements
`GradientStep` can train in shards, on several workers (`workers/sharded.py`), which wrap its step.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from numpy.typing import NDArray

from elman.data.batches import Batch

Arrays = Mapping[str, NDArray[Any]]


class Step(ABC):
    """Updates and validates one model, batch by batch.

    - `trainer`: contains the model, its optimizer, and what else a step reads: `gradient_clip_val`,
      `gpus`, `train_batch_idx`, `example()`, and `clip_gradients`, a hook that users override. The
      step sets its `gradient_norm`.
    - `agreed_seconds`: seconds of the training that all workers agree on; None in one process.
    """

    agreed_seconds: float | None = None

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    @property
    def model(self) -> Any:
        """The model."""
        return self.trainer.model

    @property
    def optim(self) -> Any:
        """The model's optimizer."""
        return self.trainer.optim

    # What a framework implements.

    @abstractmethod
    def update(self, batch: Batch) -> float:
        """Take an optimization step; return the batch's mean loss in nats per token."""

    @abstractmethod
    def validate(self, batch: Batch) -> float | None:
        """Mean loss of a batch without gradients; None if the model's step returns none."""

    @abstractmethod
    def scale_learning_rate(self, factor: float) -> None:
        """Set the learning rate to `factor` times its initial value."""

    @abstractmethod
    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Copies of all arrays that updates change: weights, optimizer, generators."""

    @abstractmethod
    def load_state_dict(self, arrays: Arrays) -> None:
        """Load the result of `state_dict`."""

    @abstractmethod
    def to_numpy(self, array: Any) -> NDArray[Any]:
        """Convert an array of a hidden state to NumPy."""

    @abstractmethod
    def from_numpy(self, array: NDArray[Any]) -> Any:
        """Convert an array of a hidden state from NumPy, and move it to the device."""

    def create_state(self) -> None:  # noqa: B027  most frameworks have already created it
        """Create the parameters and optimizer slots that a framework would create later."""

    # Further methods that the loop calls, for one process; shards override them for all workers.

    @property
    def final_state(self) -> Any:
        """Hidden state after the last batch, detached; None if the model does not set it."""
        return self.model.final_state

    def hidden_arrays(self, state: Any) -> dict[str, NDArray[Any]]:
        """Arrays of a hidden state, for a checkpoint."""
        return flatten_state(state, self.to_numpy)

    def hidden_state(self, arrays: Arrays) -> Any:
        """Hidden state in the arrays of a checkpoint; None if there is none."""
        return unflatten_state(arrays, self.from_numpy)

    def gathered(self, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Arrays of a checkpoint, complete in the first worker."""
        return arrays

    def own_part(self, arrays: Arrays) -> Arrays:
        """Arrays of a checkpoint in the form that this process keeps them."""
        return arrays

    def may_end(self, wanted: bool) -> bool:
        """Return True if all workers end now. `wanted`: this worker should end."""
        return wanted


class GradientStep(Step):
    """A step in two halves; workers exchange gradients between them.

    Gradients and weights are vectors in single precision, in the order of `vector_shapes`.
    """

    @abstractmethod
    def backpropagate(self, batch: Batch) -> float:
        """Compute the gradients of a batch; return its mean loss in nats per token."""

    @abstractmethod
    def gradient_vector(self, factor: float = 1, memory: Any = None) -> Any:
        """Copy of all gradients times a factor as one vector; zeros before there are any.

        - `memory`: NumPy array that the vector may be written to.
        """

    @property
    def vector_length(self) -> int:
        """Number of gradients in the vector."""
        return sum(map(prod, self.vector_shapes().values()))

    @abstractmethod
    def apply_gradients(self, vector: Any) -> None:
        """Clip or measure these gradients, and take the optimizer's step."""

    @abstractmethod
    def vector_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights, in the order of the vectors."""

    @abstractmethod
    def seed_dropout(self, *words: int) -> None:
        """Seed the generators of dropout with these numbers."""

    @abstractmethod
    def partition_optimizer(self, own: Mapping[str, slice]) -> None:
        """Make the optimizer update only these parts of the vector of weights, one per section.

        The names of sections follow `weights.is_recurrent`, as those of weights do.
        """

    @abstractmethod
    def update_part(self, vector: Any) -> Any:
        """Take the optimizer's step with all gradients; return the updated part of the weights."""

    @abstractmethod
    def weight_vector(self) -> Any:
        """Copy of all weights."""

    @abstractmethod
    def set_weight_vector(self, vector: Any) -> None:
        """Set all weights."""

    @abstractmethod
    def section_of(self, name: str) -> str | None:
        """Section of which an array of `state_dict` is the optimizer's state; None if of none."""


class EarlyStep(GradientStep):
    """A step that has the gradients of some weights before those of others."""

    @abstractmethod
    def when_complete(self, tell: Callable[[str], None]) -> frozenset[str]:
        """Call `tell` with a weight's name whenever its gradient of a batch is complete.

        Return the names of the weights for which it is called, if they have a gradient. No other
        weights may be trained later.
        """

    @abstractmethod
    def empty_vector(self) -> Any:
        """Vector for all gradients, without values."""

    @abstractmethod
    def copy_gradients(self, vector: Any, part: slice, factor: float) -> None:
        """Copy the gradients of some weights times a factor to their part of a vector."""


def flatten_state(
    state: Any, convert: Callable[[Any], NDArray[Any]], name: str = "hidden_state"
) -> dict[str, NDArray[Any]]:
    """Arrays of a state, named by position: `hidden_state.0`, `hidden_state.1.0`, ...

    A state is None, an array, or a tuple or list of states. `convert` makes it a NumPy array.
    """
    if isinstance(state, tuple | list):
        named = (flatten_state(part, convert, f"{name}.{i}") for i, part in enumerate(state))
        return {key: array for parts in named for key, array in parts.items()}
    return {} if state is None else {name: convert(state)}


def unflatten_state(
    arrays: Mapping[str, Any], convert: Callable[[Any], Any], name: str = "hidden_state"
) -> Any:
    """The state from which `flatten_state` made these arrays, with tuples instead of lists.

    `arrays` may contain other arrays; `convert` converts an array to the framework's.
    """
    if name in arrays:
        return convert(arrays[name])
    positions = {key[len(name) + 1 :].split(".")[0] for key in arrays if key.startswith(f"{name}.")}
    parts = (unflatten_state(arrays, convert, f"{name}.{i}") for i in range(len(positions)))
    return tuple(parts) or None


def clip_or_measure(trainer: Any) -> None:
    """Clip the gradients of a trainer's model by its hook, or otherwise measure them.

    For frameworks whose gradients stay in the model: their Trainer also has `measure_gradients`.
    """
    if trainer.gradient_clip_val > 0:
        trainer.clip_gradients(trainer.gradient_clip_val, trainer.model)
    else:
        trainer.gradient_norm = trainer.measure_gradients(trainer.model)

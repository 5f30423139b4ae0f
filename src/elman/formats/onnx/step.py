"""The graph of one step: ids and a state in, logits and the next state out."""

from typing import Any

from elman.formats.onnx.graph import FLOATS, IDS, Graph
from elman.formats.onnx.layers import LanguageModel

FILE = "step.onnx"


def graph(model: LanguageModel) -> Any:
    """`ids`, (batch, steps), `h` and `c` to `logits`, (batch, steps, vocab), `next_h`, `next_c`.

    Parts of a state are (layers, batch, hidden); only an LSTM has c.
    """
    made, shape = Graph(), model.state_shape("batch")
    ids = made.input("ids", IDS, ("batch", "steps"))
    state = [made.input(name, FLOATS, shape) for name in model.states]
    logits, next_state = model.add_to(made, ids, state)
    made.output(logits, "logits", FLOATS, ("batch", "steps", model.arch.vocab))
    for name, value in zip(model.states, next_state, strict=True):
        made.output(value, f"next_{name}", FLOATS, shape)
    return made.model("step")

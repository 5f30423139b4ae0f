"""Two custom cells: minLSTM, and an RNN with layer normalization.

It trains both on The Time Machine in the framework that is named, writes a text with each, and
saves the runs minlstm and normalized-rnn in the current folder.

    python examples/cells.py torch
"""

import sys
from typing import Any

import elman


def minlstm(xp: Any, x: Any) -> tuple[Any, Any]:
    """minLSTM (Feng et al. 2024): h = f' h + i' c, with gates of the input that add up to 1."""
    f, i, candidate = xp.split(x, 3, 1)  # (batch, hidden) each
    f, i = xp.sigmoid(f), xp.sigmoid(i)
    return f / (f + i), i / (f + i) * candidate


def normalized_rnn(xp: Any, x: Any, r: Any, state: Any, gain: Any, shift: Any) -> Any:
    """RNN with layer normalization (Ba et al. 2016): h = tanh(gain * normalized + shift)."""
    total = x + r
    centered = total - xp.reduce_mean(total, 1, keepdims=True)
    variance = xp.reduce_mean(centered * centered, 1, keepdims=True)
    return (xp.tanh(gain * centered * (variance + 1e-5) ** -0.5 + shift),)


MINLSTM = elman.Cell("minlstm", ("f", "i", "h"), linear=minlstm)
NORMALIZED_RNN = elman.Cell(
    "normalized-rnn", ("h",), normalized_rnn, parameters={"gain": 1.0, "shift": 0.0}
)
elman.register(MINLSTM)
elman.register(NORMALIZED_RNN)


def train(d2l: Any, cell: str, epochs: int) -> Any:
    """A model with this cell, trained on the book."""
    data = d2l.TimeMachine(batch_size=1024, num_steps=32)
    inputs = {"num_inputs": len(data.vocab)} if d2l.__name__ == "elman.torch" else {}
    layers = d2l.Recurrent(cell=cell, num_hiddens=32, **inputs)
    model = d2l.RNNLM(layers, len(data.vocab), lr=0.005, optimizer="adam")
    d2l.Trainer(epochs, gradient_clip_val=1).fit(model, data)
    return model


def main(framework: str = "torch", epochs: int = 50) -> None:
    """Train, save and write with both cells."""
    d2l = elman.framework_module(framework)
    for cell in (MINLSTM, NORMALIZED_RNN):
        model = train(d2l, cell.name, epochs)
        elman.save(cell.name, model)
        print(f"{cell.name}: {model.predict('it has', 40)!r}")


if __name__ == "__main__":
    main(*sys.argv[1:2])

"""Layers of any cell as a PyTorch module: its equations, in a loop over the steps."""

from collections.abc import Sequence
from string import Template

from elman.formats.equations import Language, Symbol, write_step
from elman.model.cells import Cell

LAYERS = Template('''\
class Layers(nn.Module):
    """Layers of the cell $cell, with the gates $gates."""

    def __init__(self, inputs, hidden, num_layers):
        super().__init__()
        self.hidden, self.num_layers = hidden, num_layers
        for n in range(num_layers):
            shapes = {
$shapes
            }
            for kind, shape in shapes.items():
                self.register_parameter(f"{kind}_l{n}", nn.Parameter(torch.zeros(shape)))
            inputs = hidden

    def forward(self, x, state=None):
        """Return the outputs, (batch, steps, hidden), and the state of each layer."""
        zeros = x.new_zeros(len(x), self.hidden)
        final = []
        for n in range(self.num_layers):
            w = {kind: self.get_parameter(f"{kind}_l{n}") for kind in self.KINDS}
            before = ($zeros) if state is None else state[n]
            x, after = self.run(w, x, before)
            final.append(after)
        return x, final

    def run(self, w, inputs, state):
        """Return the outputs of a layer, (batch, steps, hidden), and its state."""
        outputs = []
        for x in (inputs @ w["weight_ih"].T + w["bias_ih"]).unbind(dim=1):
$recurrent            state = self.step(w, x, $r, state)
            outputs.append(state[0])
        return torch.stack(outputs, dim=1), state

    def step(self, w, x, r, state):
        """Return the state after a step; x and r are (batch, gates * hidden)."""
$step

    KINDS = ($kinds)


''')

RECURRENT = '            r = state[0] @ w["weight_hh"].T + w["bias_hh"]\n'
OPERATORS = {
    "neg": "-{}",
    "add": "{} + {}",
    "sub": "{} - {}",
    "mul": "{} * {}",
    "div": "{} / {}",
    "pow": "{} ** {}",
}


class Statements(Language):
    """Array functions that write PyTorch statements, one for each result."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._names = 0

    def apply(self, kind: str, *operands: Symbol | float) -> Symbol:
        """Write an operator or a function."""
        form = OPERATORS.get(kind, f"torch.{kind}({{}})")
        return self._assign(form.format(*map(_name, operands)))[0]

    def reduce(self, kind: str, x: Symbol, axis: int, keepdims: bool) -> Symbol:
        """Write a mean or a sum along an axis."""
        return self._assign(f"{x.name}.{kind}(dim={axis}, keepdim={keepdims})")[0]

    def split(self, x: Symbol, parts: int, axis: int) -> list[Symbol]:
        """Write a split into equal parts."""
        return self._assign(f"{x.name}.tensor_split({parts}, dim={axis})", parts)

    def concat(self, parts: Sequence[Symbol], axis: int) -> Symbol:
        """Write a concatenation."""
        return self._assign(f"torch.cat([{', '.join(map(_name, parts))}], dim={axis})")[0]

    def _assign(self, expression: str, results: int = 1) -> list[Symbol]:
        names = [f"v{self._names + n}" for n in range(results)]
        self._names += results
        self.lines.append(f"{', '.join(names)} = {expression}")
        return [Symbol(name, self) for name in names]


def _name(operand: Symbol | float) -> str:
    return operand.name if isinstance(operand, Symbol) else repr(float(operand))


def layers(cell: Cell) -> str:
    """Source of the class Layers for a cell."""
    statements = Statements()
    state = [f"state[{n}]" for n in range(cell.states)]
    own = {name: f'w["{name}"]' for name in cell.parameters}
    after = write_step(statements, cell, "x", "r" if cell.recurrent else None, state, own)
    statements.lines.append(f"return {', '.join(after)},")
    rows = len(cell.gates)
    columns = {"weight_ih": ", inputs", "weight_hh": ", hidden"}
    shapes = [
        f'"{kind}": ({"" if kind in own else f"{rows} * "}hidden{columns.get(kind, ",")}),'
        for kind in cell.weight_kinds
    ]
    return LAYERS.substitute(
        cell=cell.name,
        gates=", ".join(cell.gates),
        shapes=_indented(16, shapes),
        zeros="zeros, " * cell.states,
        recurrent=RECURRENT if cell.recurrent else "",
        r="r" if cell.recurrent else "None",
        step=_indented(8, statements.lines),
        kinds="".join(f'"{kind}", ' for kind in cell.weight_kinds),
    )


def _indented(columns: int, lines: Sequence[str]) -> str:
    return "\n".join(" " * columns + line for line in lines)

"""A run as a PyTorch program that does not need elman: model.py, its weights and its tokens."""

import json
from collections.abc import Sequence
from pathlib import Path
from string import Template

from elman.files import atomic, tensors
from elman.formats.equations import Language, Symbol, write_step
from elman.model.cells import FRAMEWORK_LAYERS, Cell
from elman.model.options import precision_in
from elman.model.registry import cell_named
from elman.model.weights import Architecture
from elman.runs import run as runs
from elman.text import codec
from elman.text.codec import Codec
from elman.text.tokenizers import Units

PROGRAM = Template('''\
"""A language model in PyTorch: $title.

    python model.py PREFIX --tokens 200 --temperature 0.8

It needs $packages. The tokens are in vocab.json, the weights in model.safetensors.
"""

import argparse
import json
${re}from pathlib import Path

import torch
from safetensors.torch import load_model
${tokenizers}from torch import nn

FOLDER = Path(__file__).parent
TOKENS = json.loads((FOLDER / "vocab.json").read_text(encoding="utf-8"))
IDS = {token: number for number, token in enumerate(TOKENS)}
${line_end}$tokenizer

${layers}class LanguageModel(nn.Module):
    """Maps ids, (batch, steps), to logits of the next token, (batch, steps, vocab)."""

    def __init__(self):
        super().__init__()
$modules

    def forward(self, ids, state=None):
        """Return the logits and the state after the last step."""
        outputs, state = self.rnn($features, state)
        return self.linear(outputs), state


def load():
    """Load the model with its weights."""
    model = LanguageModel()
    load_model(model, FOLDER / "model.safetensors")
    return model.eval()


def encode(text):
    """Return the ids of a text."""
    tokens = split(text)
    if unknown := [token for token in tokens if token not in IDS]:
        raise ValueError(f"the model does not know {unknown[0]!r}")
    return [IDS[token] for token in tokens]


$generate


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a text that begins with a prefix.")
    parser.add_argument("prefix"$optional)
    parser.add_argument("--tokens", type=int, default=200, help="tokens to add")
    parser.add_argument("--temperature", type=float, default=0.8, help="0: the likeliest token")
    arguments = parser.parse_args()
    try:
        print(generate(load(), **vars(arguments)))
    except ValueError as error:
        parser.error(str(error))
''')

TOKENIZERS = {
    Units.CHARACTERS: '''\


def split(text):
    """Return the characters of a text."""
    return list(text)


def join(tokens):
    """Return the text of some characters."""
    return "".join(tokens)
''',
    Units.BYTES: '''\


def split(text):
    """Return the bytes of a text in UTF-8, each as the character with its code."""
    return list(text.encode().decode("latin-1"))


def join(tokens):
    """Return the text of some bytes."""
    return "".join(tokens).encode("latin-1").decode(errors="replace")
''',
    Units.MATCHES: '''\
PATTERN = r"$pattern"


def split(text):
    """Return the tokens of a text."""
    return re.findall(PATTERN, text)


def join(tokens):
    """Return the text of some tokens."""
    return "".join(tokens)
''',
    Units.BYTE_PAIRS: '''\
TOKENIZER = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))


def split(text):
    """Return the byte pairs of a text."""
    return TOKENIZER.encode(text, add_special_tokens=False).tokens


def join(tokens):
    """Return the text of some byte pairs."""
    return TOKENIZER.decoder.decode(list(tokens))
''',
}

GENERATE = '''\
@torch.no_grad()
def generate(model, prefix, tokens=200, temperature=0.0):
    """Write a text that begins with a prefix: the likeliest tokens, or sampled at a temperature."""
    ids, state = encode(prefix), None
    if not ids:
        raise ValueError("the prefix is empty: give at least one symbol to begin with")
    inputs = torch.tensor([ids])
    for _ in range(tokens):
        logits, state = model(inputs, state)
        ids.append(choose(logits[0, -1], temperature))
        inputs = torch.tensor([ids[-1:]])
    return join(TOKENS[number] for number in ids)'''

GENERATE_LINE = '''\
@torch.no_grad()
def generate(model, prefix="", tokens=200, temperature=0.0):
    """Write a line that begins with a prefix: the likeliest tokens, or sampled at a temperature."""
    ids, state = [LINE_END, *encode(prefix)], None  # a line begins after the end of another
    inputs = torch.tensor([ids])
    for _ in range(tokens):
        logits, state = model(inputs, state)
        chosen = choose(logits[0, -1], temperature)
        if chosen == LINE_END:
            break
        ids.append(chosen)
        inputs = torch.tensor([[chosen]])
    return join(TOKENS[number] for number in ids[1:])'''

CHOOSE = '''\
def choose(logits, temperature):
    """Return the likeliest id, or one that is sampled at a temperature."""
    logits[IDS["<unk>"]] = -torch.inf  # it represents no text
    if temperature == 0:
        return int(logits.argmax())
    return int(torch.multinomial(torch.softmax(logits / temperature, dim=0), 1))


'''


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
    "negative": "-{}",
    "add": "{} + {}",
    "subtract": "{} - {}",
    "multiply": "{} * {}",
    "divide": "{} / {}",
    "power": "{} ** {}",
}
FEATURES = "nn.functional.one_hot(ids, {}).float()", "self.embedding(ids)"


def write(run: Path, out: Path) -> None:
    """Write the folder `out` with model.py, model.safetensors, vocab.json and tokenizer.json.

    The program computes in single precision. Writing it does not require PyTorch.
    """
    arch, values, used, recorded = runs.read(run)
    precision_in("torch", recorded)  # a notice if it differs
    with atomic.new_folder(out) as part:
        codec.write(part, used)
        tensors.write(part / "model.safetensors", values)
        atomic.write(part / "model.py", program(arch, used).encode())


def program(arch: Architecture, used: Codec) -> str:
    """Source of model.py for an architecture and a codec."""
    units, is_own = used.tokenizer.units, arch.cell not in FRAMEWORK_LAYERS
    used.tokenizer.require_units(TOKENIZERS, "a program in PyTorch")
    byte_pairs = units is Units.BYTE_PAIRS
    end = json.dumps(used.vocab.idx_to_token[used.line_end]) if used.lines else ""
    return PROGRAM.substitute(
        title=f"{arch.cell} with {arch.layers} x {arch.hidden} hidden units, {arch.vocab} tokens",
        packages="torch, safetensors and tokenizers" if byte_pairs else "torch and safetensors",
        re="import re\n" * (units is Units.MATCHES),
        tokenizers="from tokenizers import Tokenizer\n" * byte_pairs,
        line_end=f"LINE_END = IDS[{end}]\n" * used.lines,
        tokenizer=Template(TOKENIZERS[units]).safe_substitute(pattern=used.tokenizer.pattern),
        layers=layers(cell_named(arch.cell)) if is_own else "",
        modules=_indented(8, _modules(arch)),
        features=FEATURES[arch.embedding > 0].format(arch.vocab),
        generate=CHOOSE + (GENERATE_LINE if used.lines else GENERATE),
        optional=', nargs="?", default=""' * used.lines,
    )


def _modules(arch: Architecture) -> list[str]:
    """Statements that make the modules of a model."""
    lines = []
    if arch.embedding:
        lines.append(f"self.embedding = nn.Embedding({arch.vocab}, {arch.embedding})")
    sizes = f"{arch.embedding or arch.vocab}, {arch.hidden}, num_layers={arch.layers}"
    if arch.cell in FRAMEWORK_LAYERS:
        name, nonlinearity = FRAMEWORK_LAYERS[arch.cell]
        kind = f', nonlinearity="{nonlinearity}"' if nonlinearity else ""
        lines.append(f"self.rnn = nn.{name}({sizes}{kind}, batch_first=True)")
    else:
        lines.append(f"self.rnn = Layers({sizes})")
    lines.append(f"self.linear = nn.Linear({arch.hidden}, {arch.vocab})")
    if arch.tied:
        lines.append("self.linear.weight = self.embedding.weight")
    return lines


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
    after = write_step(statements, cell, "x", "r", state, own)
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

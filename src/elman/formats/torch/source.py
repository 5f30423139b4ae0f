"""The source of a language model in PyTorch, with only the code that its model needs."""

import json
from string import Template

from elman.formats.torch import cell
from elman.model.cells import FRAMEWORK_LAYERS
from elman.model.registry import cell_named
from elman.model.weights import Architecture
from elman.text.codec import Codec
from elman.text.tokenizers import Units

PROGRAM = Template('''\
"""A language model in PyTorch: $title.

    python model.py PREFIX --tokens 200 --temperature 0.8

It needs $packages. The tokens are in vocab.json, the weights in model.safetensors.
"""

import argparse
import json
$imports

FOLDER = Path(__file__).parent
TOKENS = json.loads((FOLDER / "vocab.json").read_text(encoding="utf-8"))
IDS = {token: number for number, token in enumerate(TOKENS)}
$constants

$tokenizer

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
def split(text):
    """Return the tokens of a text."""
    return re.findall(PATTERN, text)


def join(tokens):
    """Return the text of some tokens."""
    return "".join(tokens)
''',
    Units.BYTE_PAIRS: '''\
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


def program(arch: Architecture, used: Codec) -> str:
    """Source of model.py for an architecture and a codec."""
    units = used.tokenizer.units
    used.tokenizer.require_units(TOKENIZERS, "a program in PyTorch")
    return PROGRAM.substitute(
        title=f"{arch.cell} with {arch.layers} x {arch.hidden} hidden units, {arch.vocab} tokens",
        packages="torch, safetensors and tokenizers"
        if units is Units.BYTE_PAIRS
        else "torch and safetensors",
        imports=_imports(units),
        constants=_constants(used),
        tokenizer=TOKENIZERS[units],
        layers="" if arch.cell in FRAMEWORK_LAYERS else cell.layers(cell_named(arch.cell)),
        modules="".join(f"        {line}\n" for line in _modules(arch)).rstrip(),
        features=_features(arch),
        generate=CHOOSE + (GENERATE_LINE if used.lines else GENERATE),
        optional=', nargs="?", default=""' if used.lines else "",
    )


def _imports(units: Units) -> str:
    lines = ["import re"] * (units is Units.MATCHES)
    lines += ["from pathlib import Path", "", "import torch"]
    lines += ["from safetensors.torch import load_model"]
    lines += ["from tokenizers import Tokenizer"] * (units is Units.BYTE_PAIRS)
    return "\n".join([*lines, "from torch import nn"])


def _constants(used: Codec) -> str:
    lines = []
    if used.tokenizer.units is Units.MATCHES:
        lines.append(f'PATTERN = r"{used.tokenizer.pattern}"')
    if used.tokenizer.units is Units.BYTE_PAIRS:
        lines.append('TOKENIZER = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))')
    if used.lines:
        lines.append(f"LINE_END = IDS[{json.dumps(used.vocab.idx_to_token[used.line_end])}]")
    return "".join(f"{line}\n" for line in lines)


def _features(arch: Architecture) -> str:
    if arch.embedding:
        return "self.embedding(ids)"
    return f"nn.functional.one_hot(ids, {arch.vocab}).float()"


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

"""The book's names, in the same order in every framework's module."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import elman

SOURCES = Path(elman.__file__).parent
# Names of one framework only.
OWN = {
    "jax": ["get_key"],
    "mxnet": ["from_numpy"],
    "tensorflow": ["Text"],
    "torch": ["init_seq2seq"],
}


def test_the_books_names_are_there(module: Any) -> None:
    listed = set(
        re.findall(
            r"\w+",
            """
            HyperParameters ProgressBoard Module DataModule Trainer Classifier LinearRegression
            Vocab TimeMachine RNNScratch RNNLMScratch RNN GRU LSTM RNNLM add_to_class plot
            set_figsize download DATA_URL check_len check_shape cpu gpu num_gpus try_gpu
            try_all_gpus arange argmax astype concat cos exp float32 int32 int64 log matmul
            normal numpy ones rand randn reduce_mean reduce_sum reshape sigmoid sin size stack
            swapaxes tanh tensor to transpose zeros
            """,
        )
    )
    assert len(listed) == 56
    assert [name for name in listed if not hasattr(module, name)] == []


@pytest.mark.parametrize(
    "name", ["Trainer", "TimeMachine", "TextFile", "RNN", "GRU", "LSTM", "RNNLM"]
)
def test_the_help_of_a_constructor_tells_of_every_argument(module: Any, name: str) -> None:
    kind = getattr(module, name)
    told = f"{inspect.getdoc(kind)}\n{inspect.getdoc(kind.__init__)}"
    taken = set(inspect.signature(kind.__init__).parameters) - {"self", "parent", "name"}  # Flax's
    assert [argument for argument in taken if f"`{argument}`" not in told] == []


def public_names(framework: str) -> dict[str, list[str]]:
    """The names that each file of a framework's package exports, in the order of its text.

    Names that only this framework has are left out.
    """
    exported = {}
    for path in sorted((SOURCES / framework).glob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        defined = [name for node in body for name in names_defined_by(node)]
        if "__all__" in defined:
            (assigned,) = (node for node in body if names_defined_by(node) == ["__all__"])
            listed = ast.literal_eval(assigned.value)
        else:
            arrays = path.stem == "arrays"
            listed = [name for name in defined if arrays and not name.startswith("_")]
        shared = set(listed) - set(OWN.get(framework, []))
        exported[path.stem] = [name for name in defined if name in shared]
    return {stem: names for stem, names in exported.items() if names}


def names_defined_by(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    names = [part for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
    return [name.id for name in names if isinstance(name.ctx, ast.Store)]


@pytest.mark.parametrize("framework", ["tensorflow", "jax", "mxnet"])
def test_all_packages_have_the_same_names_in_the_same_order_in_the_same_files(
    framework: str,
) -> None:
    found = public_names(framework)
    assert found == public_names("torch")
    assert list(found) == ["arrays", "layers", "model", "seq2seq", "step", "weights"]

"""Options and commands in messages, which Python and the command line word in their own ways."""

from dataclasses import dataclass
from typing import Any


class Term:
    """A part of a message. `str` words it for Python, `in_shell` for the command line."""

    def in_shell(self) -> str:
        """The words of the command line."""
        raise NotImplementedError


@dataclass(frozen=True)
class Either(Term):
    """Words of the command line, and of Python."""

    shell: str
    python: str

    def __str__(self) -> str:
        return self.python

    def in_shell(self) -> str:
        """The words of the command line."""
        return self.shell


@dataclass(frozen=True)
class Option(Term):
    """An option: `--batch-size` and `batch_size=`; with a value `--minutes 3` and `minutes=3`."""

    name: str
    value: Any = None

    def __str__(self) -> str:
        return f"{self.name}={'' if self.value is None else _in_python(self.value)}"

    def in_shell(self) -> str:
        """The words of the command line; True is the value of a flag."""
        value = "" if self.value in (None, True) else f" {in_shell(self.value)}"
        return f"--{self.name.replace('_', '-')}{value}"


class Call(Term):
    """A command: `elman train a.tsv --pairs` and `elman.train("a.tsv", pairs=True)`."""

    def __init__(self, command: str, *arguments: Any, **options: Any) -> None:
        self.command, self.arguments = command, arguments
        self.options = [Option(*each) for each in options.items()]

    def __str__(self) -> str:
        words = [*map(_in_python, self.arguments), *map(str, self.options)]
        return f"elman.{self.command}" + (f"({', '.join(words)})" if words else "")

    def in_shell(self) -> str:
        """The words of the command line."""
        return " ".join(["elman", self.command, *map(in_shell, [*self.arguments, *self.options])])


class Message(Term):
    """Texts, terms and other values, one after another."""

    args: tuple[Any, ...]

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __str__(self) -> str:
        return "".join(map(str, self.args))

    def in_shell(self) -> str:
        """The words of the command line."""
        return "".join(map(in_shell, self.args))


def in_shell(part: Any) -> str:
    """A term, or any other part of a message, in the words of the command line."""
    return part.in_shell() if isinstance(part, Term) else str(part)


def resuming(run: Any) -> Term:
    """The command that continues a training."""
    return Either(f"elman train --resume {run}", f'elman.resume("{run}")')


def training_from(run: Any) -> Term:
    """The command that trains the model of a finished run on another text."""
    return Call("train", Either("TEXT", "text"), init=run)


def preparing(text: str) -> Term:
    """The command that makes a store of a text."""
    return Call("prepare", text, out=Either("STORE", "store"))


def _in_python(value: Any) -> str:
    return str(value) if isinstance(value, Term | int | float) else f'"{value}"'

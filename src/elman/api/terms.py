"""Errors of the command line in terms of Python: `minutes=` for --minutes."""

import re
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from elman.core.errors import ElmanError

P = ParamSpec("P")
R = TypeVar("R")
COMMANDS = (
    (r"elman train --resume (\S+)", r'elman.resume("\1")'),
    (r"elman sweep --resume (\S+)", r'elman.sweep(resume="\1")'),
    (r"elman train TEXT --init (\S+)", r'elman.train(text, init="\1")'),
    (r"elman prepare (\S+) --out STORE", r'elman.prepare("\1", out=store)'),
    (
        r"^(there is no file .* .*)$",
        r"\1: a text in memory has a line break, or is given as [text]",
    ),
    (r"elman (train|prepare|sweep|export|evaluate)\b(?! -)", r"elman.\1"),
)
OPTION = re.compile(r"--([a-z][a-z-]*)")


def in_python(message: str) -> str:
    """A message with commands as calls, and options as keyword arguments."""
    for command, call in COMMANDS:
        message = re.sub(command, call, message)
    return OPTION.sub(lambda option: option[1].replace("-", "_") + "=", message)


def python_terms(function: Callable[P, R]) -> Callable[P, R]:
    """A function whose ElmanErrors are in terms of Python."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except ElmanError as error:
            message = in_python(str(error))
            if message == str(error):
                raise
            raise type(error)(message) from error

    return call

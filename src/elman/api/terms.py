"""Errors of the command line in terms of Python: `minutes=` for --minutes."""

import re
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from elman.errors import ElmanError

P = ParamSpec("P")
R = TypeVar("R")
COMMANDS = (
    (r"elman train --resume (\S+)", r'elman.resume("\1")'),
    (r"elman sweep --resume (\S+)", r'elman.sweep(resume="\1")'),
    (r"elman train TEXT --init (\S+)", r'elman.train(text, init="\1")'),
    (r"elman train (\S+) --pairs", r'elman.train("\1", pairs=True)'),
    (r"elman prepare (\S+) --out STORE", r'elman.prepare("\1", out=store)'),
    (", or give elman --cells FILE.py", ""),
    ("with --host or --port", "host=, or port=0 for any that is free"),
    (r"elman (train|prepare|sweep|export|evaluate|translate)\b(?! -)", r"elman.\1"),
)
CHOICE = re.compile(r"--(device|framework|to) ([a-z]+)")
VALUE = re.compile(r"--([a-z][a-z-]*) (\d+|[A-Z]+)\b")
OPTION = re.compile(r"--([a-z][a-z-]*)")


def in_python(message: str) -> str:
    """A message with commands as calls, and options as keyword arguments."""
    for command, call in COMMANDS:
        message = re.sub(command, call, message)
    message = CHOICE.sub(_with_value, VALUE.sub(_with_value, message))
    return OPTION.sub(lambda option: option[1].replace("-", "_") + "=", message)


def _with_value(option: re.Match[str]) -> str:
    value = option[2] if option[2].isdigit() else f'"{option[2]}"'
    return f"{option[1].replace('-', '_')}={value}"


def python_terms(function: Callable[P, R]) -> Callable[P, R]:
    """A function whose ElmanErrors use the terms of Python."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except ElmanError as error:
            message = in_python(str(error))
            if message == str(error):
                raise
            raise type(error)(message) from error.__cause__  # without the command line's message

    return call

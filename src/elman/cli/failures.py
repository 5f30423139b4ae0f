"""Failures of a command as one line on standard error and an exit code."""

import logging
import os
import sys
from copy import copy
from threading import Thread
from typing import Any

import typer

from elman import signals
from elman.errors import ElmanError, printable
from elman.terms import Term

NO_THREAD = "start new thread", "ThreadPoolBuildError"  # in errors of Python, and of tokenizers
NO_THREAD_STARTS = "no thread can be started: end others, or allow more (ulimit -u)"


def exit_code(app: typer.Typer, words: list[str]) -> int:
    """Run a command and return its exit code; the cause of a failure has been printed."""
    try:
        code: int = app(words, standalone_mode=False) or 0
        sys.stdout.flush()
    except ElmanError as error:
        return _fail(error.in_shell(), error.exit_code)
    except typer.TyperException as error:
        return _fail(_message(error), 2)
    except BrokenPipeError:  # the reader of the output has closed it
        _drop_output()
        return 1
    except OSError as error:
        from elman.files.paths import os_error

        reported = os_error("use", error.filename or "standard output", error)
        if error.filename is None:
            _drop_output()
        return _fail(_noted(reported.in_shell(), error), reported.exit_code)
    except MemoryError as error:
        message = "out of memory: use a smaller batch, fewer steps or fewer hidden units"
        return _fail(_noted(message, error), 1)
    except KeyboardInterrupt:  # while the output waits for its reader
        code = signals.INTERRUPTED
    except BaseException as error:  # Rust's panic is no Exception
        if not any(words in str(error) for words in NO_THREAD):
            raise
        return _fail(_noted(NO_THREAD_STARTS, error), 1)
    if code == signals.INTERRUPTED:  # Typer's exit code for Ctrl-C
        try:
            Thread(target=int).start()
        except RuntimeError:  # OpenBLAS interrupts a process that can start none
            return _fail(NO_THREAD_STARTS, 1)
        return _fail("interrupted, nothing kept", code)
    return code


def _drop_output() -> None:
    """Drop what standard output still holds, so that Python does not try to write it at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _message(error: typer.TyperException) -> str:
    """The message of a word that Typer refuses, with the word added where Typer omits it."""
    found: Any = getattr(error.__cause__, "errors", list)()  # as Pydantic has them
    return error.format_message() + (f", got {found[0]['input']!r}" if found else "")


def _noted(message: str, error: BaseException) -> str:
    """A message, and the notes of its error: what is kept of a training."""
    return "; ".join([message, *getattr(error, "__notes__", ())])


def _fail(message: str, code: int) -> int:
    _tell(message)
    return code


def _tell(message: str) -> None:
    """Write a line at once: the lines of several workers would mix."""
    sys.stderr.write(f"elman: {printable(message)}\n")


class Notices(logging.Handler):
    """Log records of the package, a line each on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record; its terms are worded as for the command line."""
        shown = copy(record)
        if isinstance(record.args, tuple):
            shown.args = tuple(
                each.in_shell() if isinstance(each, Term) else each for each in record.args
            )
        _tell(shown.getMessage())

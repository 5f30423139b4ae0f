"""One session for each framework, in a virtual environment of its own, and one for the style."""

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["style", "base", "torch"]


@nox.session
def style(session: nox.Session) -> None:
    """Formatting, lint and types."""
    session.install(".[dev,torch]")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")


@nox.session
def base(session: nox.Session) -> None:
    """What the base install can do: the core, the specification and the command line."""
    session.install(".[test]")
    session.run("pytest", "tests/core", "tests/numpy_module", *session.posargs)


@nox.session
def torch(session: nox.Session) -> None:
    """PyTorch: agreement with the specification, and the book's code."""
    session.install(".[test,torch]")
    session.run("pytest", "tests/torch_module", *session.posargs)

"""One session for each framework, in a virtual environment of its own, and one for the style."""

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["style", "base", "torch", "tensorflow", "jax", "mxnet", "together"]


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


def framework(session: nox.Session, name: str, env: dict[str, str] | None = None) -> None:
    """What every framework is asked, and what is asked of this one alone."""
    session.install(f".[test,{name}]")
    folders = ("tests/frameworks", f"tests/{name}_module")
    session.run("pytest", *folders, "--framework", name, *session.posargs, env=env)


@nox.session
def torch(session: nox.Session) -> None:
    """PyTorch: agreement with the specification, and the book's code."""
    framework(session, "torch")


@nox.session
def tensorflow(session: nox.Session) -> None:
    """TensorFlow with tf_keras, for which the book is written, and with Keras 3."""
    framework(session, "tensorflow")
    framework(session, "tensorflow", env={"TF_USE_LEGACY_KERAS": "0"})


@nox.session
def jax(session: nox.Session) -> None:
    """JAX and Flax: agreement with the specification, and the book's code."""
    framework(session, "jax")


@nox.session(python="3.11")
def mxnet(session: nox.Session) -> None:
    """MXNet, in the environment of its own that it needs."""
    framework(session, "mxnet")


@nox.session
def together(session: nox.Session) -> None:
    """PyTorch, TensorFlow and JAX in one environment."""
    session.install(".[test,torch,tensorflow,jax]")
    session.run("pytest", "tests/together", *session.posargs)

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
    """What the base install can do: the core, the specification, the engine, the command line."""
    session.install(".[test]")
    session.run("pytest", "tests/core", "tests/numpy_module", "tests/engine", *session.posargs)
    asked = [f"tests/frameworks/test_{name}.py" for name in ("parity", "cli", "resume")]
    session.run("pytest", *asked, "--framework", "numba", *session.posargs)
    session.run("pytest", asked[-1], "--framework", "numpy", *session.posargs)


def framework(session: nox.Session, name: str) -> None:
    """What every framework is asked, and what is asked of this one alone."""
    session.install(f".[test,{name}]")
    folders = ("tests/frameworks", f"tests/{name}_module")
    session.run("pytest", *folders, "--framework", name, *session.posargs)


@nox.session
def torch(session: nox.Session) -> None:
    """PyTorch: agreement with the specification, and the book's code."""
    framework(session, "torch")


@nox.session
def tensorflow(session: nox.Session) -> None:
    """TensorFlow with tf_keras, for which the book is written, and with Keras 3."""
    framework(session, "tensorflow")
    keras_3 = {"TF_USE_LEGACY_KERAS": "0"}
    quick = "agree or there_and_back or dropout or own or keras or compiled or variables or plots"
    folders = ("tests/frameworks", "tests/tensorflow_module")
    session.run("pytest", *folders, "--framework", "tensorflow", "-k", quick, env=keras_3)


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

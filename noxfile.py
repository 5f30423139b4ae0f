"""One session for each framework, in a virtual environment of its own, and one for the style."""

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["style", "base", "torch", "tensorflow", "jax", "mxnet", "together"]


def test(session: nox.Session, *words: str, **env: str) -> None:
    """Run some tests, in as many processes as there are cores.

    OpenMP's threads are told to sleep when they have nothing to do: on cores that others work on
    they would keep these waiting. To debug, add `-- -n0`.
    """
    asked = ("-n", "auto", *words, *session.posargs)
    session.run("pytest", *asked, env={"OMP_WAIT_POLICY": "PASSIVE", **env})


@nox.session
def style(session: nox.Session) -> None:
    """Formatting, lint and types."""
    session.install(".[dev,torch]")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")


@nox.session
def base(session: nox.Session) -> None:
    """Base install: the core, the specification, the engine, the command line."""
    session.install(".[test]")
    test(session, "tests/core", "tests/numpy_module", "tests/engine")
    asked = [f"tests/frameworks/test_{name}.py" for name in ("parity", "cli", "codec", "resume")]
    test(session, *asked, "--framework", "numba")
    test(session, asked[-1], "--framework", "numpy")


def framework(session: nox.Session, name: str) -> None:
    """Tests that every framework is asked, and those of this one alone."""
    session.install(f".[test,{name}]")
    test(session, "tests/frameworks", f"tests/{name}_module", "--framework", name)


@nox.session
def torch(session: nox.Session) -> None:
    """PyTorch: agreement with the specification, and the book's code."""
    framework(session, "torch")


@nox.session
def tensorflow(session: nox.Session) -> None:
    """TensorFlow with tf_keras, for which the book is written, and with Keras 3."""
    framework(session, "tensorflow")
    quick = "agree or there_and_back or dropout or own or keras or compiled or variables or plots"
    folders = ("tests/frameworks", "tests/tensorflow_module")
    asked = (*folders, "--framework", "tensorflow", "-k", quick)
    test(session, *asked, TF_USE_LEGACY_KERAS="0")


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
    test(session, "tests/together")

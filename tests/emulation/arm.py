"""Run tests on a 64-bit ARM processor that QEMU emulates.

    python -m tests.emulation.arm [--cpu NAME ...] FOLDER [PYTEST WORDS]

FOLDER receives an ARM root file system (Python from Debian's packages, dependencies from PyPI's
wheels) on the first run, and a log for each processor. Needs Debian 13 with its `apt-get`, and
Python 3.13 with elman's dependencies, but no rights of an administrator: packages are downloaded
and unpacked, not installed. This Python compiles the kernels, outside of the emulation
(cross_compiling.py). The emulation shows results, not speed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
VERSION = "3.13"  # Debian 13's Python
PYTHON = [f"python{VERSION}", f"python{VERSION}-minimal"]
PYTHON += [f"libpython{VERSION}-minimal", f"libpython{VERSION}-stdlib"]
LIBRARIES = "libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libssl3t64 libffi8 libbz2-1.0 liblzma5"
LIBRARIES += " libsqlite3-0 libuuid1 libzstd1 libncursesw6 libtinfo6 libreadline8t64"
QEMU = ["qemu-user", "qemu-user-static"]  # both: one has a link to the other's file
TEST_PACKAGES = ["pytest", "pytest-timeout", "hypothesis"]
COMPILING = ["numba", "llvmlite", "numpy"]  # the same versions compile outside of the emulation
COMPILER = "ELMAN_CROSS_COMPILER"  # path of a Python with elman's dependencies
SOURCES = "ELMAN_CROSS_SOURCES"  # its PYTHONPATH
PLATFORMS = ["manylinux2014", "manylinux_2_17", "manylinux_2_26", "manylinux_2_27"]
PLATFORMS += ["manylinux_2_28"]
# Processors and their instructions for Numba; without any, it uses those that LLVM finds. LLVM
# finds no bfloat16 in "max", QEMU's processor with all its instructions.
PROCESSORS = {"max": "+fp-armv8,+neon,+lse,+bf16", "cortex-a72": ""}
TESTS = ["tests/engine", "tests/numpy_module", "tests/frameworks/test_parity.py"]
TESTS += ["--framework", "numba"]


def main() -> None:
    """Prepare the folder, run the tests on each processor, and print the end of each log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cpu", action="append", help="one of QEMU's names; may be repeated")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="for pytest")
    asked = parser.parse_args()
    missing = [name for name in ("apt-get", "dpkg-deb") if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"the emulation needs Debian 13: {' and '.join(missing)} are missing")
    if sys.version_info[:2] != tuple(map(int, VERSION.split("."))):
        raise SystemExit(f"the emulation needs Python {VERSION}, got {sys.version.split()[0]}")
    try:
        versions = [f"{name}=={version(name)}" for name in COMPILING]
    except PackageNotFoundError as error:
        raise SystemExit(f"the emulation needs elman's dependencies: {error}") from None
    folder = asked.folder.resolve()
    prepare(folder, versions)
    failed = [cpu for cpu in asked.cpu or PROCESSORS if not run(folder, cpu, asked.words or TESTS)]
    raise SystemExit(f"tests failed on {', '.join(failed)}" if failed else 0)


def prepare(folder: Path, versions: list[str]) -> None:
    """Fill the parts of the folder that are missing."""
    unpack(QEMU, folder / "host", {})
    unpack([*PYTHON, *LIBRARIES.split()], folder / "root", foreign(folder / "apt"))
    link = folder / "root" / "lib"
    if not link.is_symlink():
        link.symlink_to("usr/lib")
    install(folder / "site", versions)


def unpack(packages: list[str], to: Path, env: dict[str, str]) -> None:
    """Download Debian packages, and unpack them into a folder, unless it exists."""
    if to.exists():
        return
    downloads = to.with_name(f"{to.name}-packages")
    downloads.mkdir(parents=True, exist_ok=True)
    environment = os.environ | env
    if env:
        subprocess.run(["apt-get", "-q", "update"], env=environment, check=True)
    subprocess.run(
        ["apt-get", "-q", "download", *packages], cwd=downloads, env=environment, check=True
    )
    for package in sorted(downloads.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, to], check=True)


def foreign(folder: Path) -> dict[str, str]:
    """Environment in which apt-get reads lists of ARM packages, kept in a folder.

    The system keeps its own lists and architectures.
    """
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    status, settings = folder / "status", folder / "apt.conf"
    status.touch()
    lines = [
        'APT::Architecture "arm64";',
        'APT::Architectures { "arm64"; };',
        f'Dir::State::Lists "{folder / "lists"}";',
        f'Dir::State::status "{status}";',
        f'Dir::Cache "{folder / "cache"}";',
    ]
    settings.write_text("\n".join(lines), encoding="utf-8")
    return {"APT_CONFIG": str(settings)}


def install(to: Path, versions: list[str]) -> None:
    """Install the dependencies' ARM wheels into a folder, unless it exists."""
    if to.exists():
        return
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", to]
    command += ["--only-binary=:all:", "--python-version", VERSION]
    for platform in PLATFORMS:
        command += ["--platform", f"{platform}_aarch64"]
    subprocess.run([*command, *versions, *project["dependencies"], *TEST_PACKAGES], check=True)


def run(folder: Path, cpu: str, words: list[str]) -> bool:
    """Run pytest on an emulated processor; return True if it passes."""
    log, cache = folder / f"{cpu}.log", folder / f"cache-{cpu}"
    cache.mkdir(mode=0o700, exist_ok=True)
    sources = [str(REPOSITORY / "src"), str(REPOSITORY)]
    env = {
        **os.environ,
        "PYTHONHOME": str(folder / "root" / "usr"),
        "PYTHONPATH": os.pathsep.join([*sources, str(folder / "site")]),
        COMPILER: sys.executable,
        SOURCES: os.pathsep.join(sources),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBA_CACHE_DIR": str(cache),
        # The kernels of NumPy's OpenBLAS for SME compute wrong products in the emulation.
        "OPENBLAS_CORETYPE": "ARMV8",
    }
    features = PROCESSORS.get(cpu)
    if features:
        env.setdefault("NUMBA_CPU_FEATURES", features)
    options = ["-p", "no:cacheprovider", "-p", "tests.emulation.cross_compiling"]
    options += ["--timeout", "0", "--durations", "10", "-v"]
    command = [python(folder, cpu), "-m", "pytest", *options, *words]
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            command, cwd=REPOSITORY, env=env, stdout=file, stderr=subprocess.STDOUT
        )
    *_, last = log.read_text(encoding="utf-8").splitlines() or [""]
    print(f"{cpu}: {last} ({log})", flush=True)
    return done.returncode == 0


def python(folder: Path, cpu: str) -> Path:
    """Write a script that starts the emulated Python; it is also Python's `sys.executable`."""
    script = folder / f"python-{cpu}"
    emulator = f"'{folder}/host/usr/bin/qemu-aarch64-static' -cpu {cpu} -L '{folder}/root'"
    interpreter = f"'{folder}/root/usr/bin/python{VERSION}'"
    text = f'#!/bin/sh\nexec {emulator} -0 "$0" {interpreter} "$@"\n'
    script.write_text(text, encoding="utf-8")
    script.chmod(0o755)
    return script


if __name__ == "__main__":
    main()

"""Attack the command line as a stranger would, and print a table of the outcomes.

    python tests/robustness/attacks.py [NAME ...]

Each attack runs `elman` in processes of its own, in a folder of its own, and says in a few words
what happened; `held` tells whether the claim held. Peak memory is VmHWM, looked at every 10 ms.
Exits with 1 where a claim did not hold. Linux; some attacks need root, and are left out without it.
"""

import contextlib
import json
import os
import pickle
import pty
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from commands import (
    QUICK,
    SMALL,
    STORY,
    begin,
    check,
    one_line,
    run,
    stopped,
    story,
    trained,
    wait_for,
    watched,
)
from memory_attacks import (
    contents,
    different_words,
    large_checkpoint,
    large_state,
    long_piece,
    nested_vocabulary,
    newlines,
    signed,
    too_large,
)

# A user without a name or a home: the password file knows nobody.
HOMELESS = [
    *(sys.executable, "-P", "-c"),
    "import os, pwd; os.environ.pop('HOME', 0); pwd.getpwuid = {}.__getitem__; "
    "from elman.cli import main; main()",
]


# Code from a folder.


class Touch:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


def planted_code(folder: Path) -> str:
    """Pickles beside `.numba_config.yaml`, with the names of compiled kernels."""
    kept = folder / "kept"
    made = trained(folder, "--framework", "numba", name="good")
    run(folder, "generate", str(made), "Once", env={"NUMBA_CACHE_DIR": str(kept)})
    names = [path.name for path in (kept / "kernels").iterdir()]
    check(names, "no kernels were kept")
    marker = folder / "ran"
    for place in (folder, made):
        (place / "k" / "kernels").mkdir(parents=True)
        for name in names:
            (place / "k" / "kernels" / name).write_bytes(pickle.dumps(Touch(marker)))
        (place / ".numba_config.yaml").write_text("cache_dir: k\nnum_threads: 1\n")
    run(folder, "generate", "good", "Once")
    run(folder, "train", "story.txt", *SMALL, "--out", "more")
    run(made, "evaluate", ".", "../story.txt")
    check(not marker.exists(), "code was run")
    return f"{len(names)} files planted, 3 commands, none ran"


def damaged_code(folder: Path, tries: int = 70) -> str:
    """Compiled code with bytes changed or cut off."""
    env = {"NUMBA_CACHE_DIR": str(folder / "kept")}
    words = ("generate", "run", "Once", "--tokens", "20")
    trained(folder)
    good = run(folder, *words, env=env)
    files = {path: path.read_bytes() for path in (folder / "kept" / "kernels").iterdir()}
    chance = random.Random(0)
    for _ in range(tries):
        path = chance.choice(sorted(files))
        raw = files[path]
        place = chance.randrange(len(raw))
        changed = raw[:place] + bytes([raw[place] ^ chance.randrange(1, 256)]) + raw[place + 1 :]
        path.write_bytes(chance.choice([raw[:place], changed, changed, changed]))
        done = run(folder, *words, env=env)
        check(done.code == 0 and done.out == good.out, f"exit code {done.code}: {done.said}")
        path.write_bytes(raw)
    return f"{tries} damages, each compiled anew"


# Matplotlib.


def matplotlib_settings(folder: Path) -> str:
    """Settings of Matplotlib in the current folder and in the user's."""
    rows = [b"text.usetex: True\n", b"font.size: 1e9\n", b"axes.prop_cycle: cycler('color', [])\n"]
    for number, raw in enumerate([*rows, b"\xff\xfe\x00\x01" * 50]):
        for place in (folder, folder / "settings"):
            place.mkdir(exist_ok=True)
            (place / "matplotlibrc").write_bytes(raw)
            env = {"MPLCONFIGDIR": str(folder / "settings")}
            name = f"run-{number}-{place == folder}"
            done = run(folder, "train", story(folder), *QUICK, "--out", name, env=env)
            check((folder / name / "config.json").exists(), f"lost: {done.said}")
            check("Traceback" not in done.err, "traceback")
            check(done.code == 0, f"exit code {done.code}: {done.said}")
            (place / "matplotlibrc").unlink()
    return "8 trainings, all runs written"


# Memory.


# Damaged files.


def contradictions(folder: Path) -> str:
    """Inconsistent trainer states in a checkpoint, and a file with an odd name."""
    half = stopped(folder)
    state, arrays = contents(half)
    none = {"history": [], "batches": 0, "loss": [0.0, 0], "stopped": True}
    changes = [none, {"batches": 35, "updates": 0}, {"updates": 0}]
    said = ""
    for change in changes:
        signed(half, json.dumps(state | change).encode(), arrays)
        done = run(folder, "train", "--resume", "half", timeout=20)
        check("Traceback" not in done.err, f"traceback: {done.said}")
        check(done.code == 2, f"exit code {done.code}")
        said = done.said
    (half / "checkpoints" / "²").with_suffix(".safetensors").write_bytes(b"")
    done = run(folder, "train", "--resume", "half", timeout=20)
    check("Traceback" not in done.err, f"traceback: {done.said}")
    return f"{len(changes) + 1} refused: {said}"


def odd_machines(folder: Path) -> str:
    """A picture that needs LaTeX, few processes, no home, and a file of the kernel's."""
    trained(folder)
    few = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NPROC, (2, 2))}
    (folder / "kernel").mkdir()
    for done in (
        run(folder, "compare", "run", "--plot", "a.pgf", env={"PATH": ""}),
        run(folder, "generate", "run", "Once", **few),
        run(folder, "generate", "run", "Once", command=HOMELESS),
        run(folder, "train", "/proc/kmsg", *QUICK, "--out", "kernel/run", timeout=30),
    ):
        check("Traceback" not in done.err, f"traceback: {done.said}")
        check(done.code in (0, 1, 2), f"exit code {done.code}: {done.said}")
    return f"4 tried, the last: {done.said}"


def unsound_stores(folder: Path) -> str:
    """A store that is cut while it is read, and texts exchanged while they are prepared."""
    (folder / "long.txt").write_text(STORY * 500)
    done = run(folder, "prepare", "long.txt", "--out", "store")
    check(done.code == 0, done.said)
    words = [*QUICK, "--batch-size", "64", "--epochs", "100", "--out", "cut"]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.monotonic()
        child = begin(folder, ["train", "store", *words], stdout=out, stderr=err)
        wait_for(lambda: b"epoch 1" in os.pread(err.fileno(), 1000, 0))
        os.truncate(folder / "store" / "ids.bin", 100)
        ended = watched(child, out, err, began, 60)
    check(ended.code in (1, 2), f"exit code {ended.code}: {ended.said}")
    check("Traceback" not in ended.err, "traceback")
    return ended.said


# Signals.


def bounded_time(folder: Path) -> str:
    """Three seconds for a text whose validation would take minutes."""
    (folder / "long.txt").write_text(STORY * 600)
    sizes = ["--cell=lstm", "--hidden=256", "--layers=2", "--batch-size=8", "--seq-len=64"]
    words = ["--recipe=book", *sizes, "--framework=numpy", "--minutes=0.05", "--out=run"]
    done = run(folder, "train", "long.txt", *words)
    check(done.code == 0, f"exit code {done.code}: {done.said}")
    check(done.seconds < 30, f"{done.seconds:.0f} s")
    return f"{done.seconds:.0f} s in all"


def compiling(folder: Path) -> str:
    """Ctrl-C while kernels are compiled."""
    env = {"NUMBA_CACHE_DIR": str(folder / "empty")}
    words = ["train", story(folder), *SMALL, "--out", "run"]
    child = begin(folder, words, env=env, stderr=subprocess.PIPE)
    assert child.stderr is not None
    while b"compiling" not in child.stderr.readline():
        check(child.poll() is None, "it did not compile")
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=60)[1].decode()
    seconds = time.monotonic() - began
    check(seconds < 4, f"{seconds:.1f} s")
    check("Traceback" not in said, "traceback")
    return f"ended within {seconds:.1f} s, exit code {child.returncode}"


def first_moment(folder: Path) -> str:
    """Ctrl-C at moments of the first half second, but for the start of Python itself."""
    for tenth in range(5, 30):
        child = begin(folder, ["info"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(tenth / 50)
        child.send_signal(signal.SIGINT)
        err = child.communicate(timeout=60)[1].decode()
        check("Traceback" not in err, f"traceback after {tenth / 50} s")
    return "25 moments, no traceback"


def fresh_names(folder: Path) -> str:
    """Six times three trainings of one text at once, without --out."""
    story(folder)
    failed = 0
    for _ in range(6):
        made = [
            begin(folder, ["train", "story.txt", *QUICK], stderr=-3, stdout=-3) for _ in range(3)
        ]
        failed += sum(child.wait(100) != 0 for child in made)
    check(not failed, f"{failed} of 18 failed")
    return f"18 runs: {len(list((folder / 'runs').iterdir()))} folders"


def leftovers(folder: Path) -> str:
    """SIGKILL while a text is read; the next command removes what is left."""
    temporary = folder / "tmp"
    temporary.mkdir()
    env = {"TMPDIR": str(temporary)}
    (folder / "long.txt").write_text(STORY * 5000)
    words = ["train", "long.txt", *QUICK, "--tokenizer", "word", "--out", "run"]
    child = begin(folder, words, env=env, stderr=subprocess.DEVNULL)
    time.sleep(2)
    check(child.poll() is None, "it has ended")
    child.kill()
    child.wait()
    run(folder, "train", story(folder), *QUICK, "--out", "next", env=env)
    left = [path.name for path in temporary.glob("elman-*")]
    check(not left, f"left: {left}")
    return "nothing is left"


def closed_pipes(folder: Path) -> str:
    """The reader of standard error, or of standard output, goes away."""
    story(folder)
    for number, channel in enumerate(("stderr", "stdout")):
        words = ["train", "story.txt", *QUICK, "--epochs", "300", "--out", f"run-{number}"]
        given: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        child = begin(folder, words, **(given | {channel: subprocess.PIPE}))
        pipe = getattr(child, channel)
        if channel == "stderr":
            pipe.readline()
        pipe.close()
        child.wait(100)
        check((folder / f"run-{number}" / "config.json").exists(), f"{channel}: lost")
    return "both runs written"


def hang_up(folder: Path) -> str:
    """SIGHUP at the default interval of checkpoints."""
    words = ["train", story(folder), *QUICK, "--epochs", "100000", "--out", "half"]
    child = begin(folder, words, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    while not child.stderr.readline().startswith("epoch 2"):
        check(child.poll() is None, "it did not train")
    child.send_signal(signal.SIGHUP)
    err = child.communicate(timeout=60)[1]
    check(list(folder.glob("half/checkpoints/0*")), "no checkpoint")
    check("--resume half" in err, "no line tells how to resume")
    return err.splitlines()[-1].removeprefix("elman: ")


# Others' folders, terminals, permissions.


def anothers_folder(folder: Path) -> str:
    """A folder to work in that belongs to another user."""
    check(os.getuid() == 0, "needs root")
    part = folder / ".store.part"
    part.mkdir()
    os.chown(part, 65534, 65534)
    return one_line(run(folder, "prepare", story(folder), "--out", "store"))


def shared_cache(folder: Path) -> str:
    """A folder of compiled code that all may write to."""
    trained(folder)
    (folder / "kept").mkdir()
    (folder / "kept").chmod(0o777)
    done = run(folder, "generate", "run", "Once", env={"NUMBA_CACHE_DIR": str(folder / "kept")})
    check(not list((folder / "kept").rglob("*.nb*")), "code was kept there")
    check(done.code == 0, f"exit code {done.code}")
    lines = [line for line in done.err.splitlines() if "kept" in line or "cache" in line.lower()]
    return lines[0].removeprefix("elman: ")[:150] if lines else "silent"


def escapes(folder: Path) -> str:
    """A vocabulary with the escapes of terminals, written to a terminal."""
    (folder / "odd.txt").write_text("a\x1b[31mb\x1b]0;title\x07c" * 300)
    run(folder, "train", "odd.txt", *QUICK, "--out", "run")
    parent, child_end = pty.openpty()
    child = begin(
        folder, ["generate", "run", "a", "--framework", "numpy"], stdout=child_end, stderr=child_end
    )
    child.wait(60)
    os.close(child_end)
    raw = os.read(parent, 1 << 16)
    check(b"\x1b" not in raw and b"\x07" not in raw, "they reach it raw")
    return raw.decode(errors="replace").strip()[:60]


def private(folder: Path) -> str:
    """A umask of 077."""
    story(folder)
    run(folder, "train", "story.txt", *QUICK, "--out", "run", preexec_fn=lambda: os.umask(0o077))
    mode = (folder / "run").stat().st_mode & 0o777
    check(mode == 0o700, oct(mode))
    return f"the folder has {mode:o}"


def python_errors(folder: Path) -> str:
    """Values of the wrong kind in Python."""
    import numpy as np

    import elman
    from elman.errors import ElmanError
    from elman.inference.sampling import Sampler

    made = trained(folder)
    model = elman.load(made)
    from elman import numpy as specification

    text = str(folder / "story.txt")
    calls: list[Callable[[], Any]] = [
        lambda: model.codec.prefix_ids("\ud800"),
        lambda: specification.TextFile(text, 8, 8, seed=-1),
        lambda: elman.load("a\0b"),
        lambda: model.step(np.array([[-1]])),
        lambda: model.step(np.array([[999]])),
        lambda: specification.Trainer(-1),
        lambda: Sampler(temperature="x"),  # type: ignore[arg-type]
    ]
    for number, call in enumerate(calls):
        try:
            call()
        except ElmanError:
            continue
        except Exception as error:
            raise AssertionError(f"call {number}: {error!r}") from error
        raise AssertionError(f"call {number}: taken in silence")
    return f"{len(calls)} calls, each an ElmanError"


def latches(folder: Path) -> str:
    """An LSTM whose gates are open and shut, over a million tokens."""
    import numpy as np

    from elman import numba
    from elman.model import weights

    arch = weights.Architecture("lstm", 2, 1)
    values = {name: np.zeros(shape, np.float32) for name, shape in weights.shapes(arch).items()}
    values["rnn.bias_ih_l0"][:] = [-20, 20, 0, 0]  # input shut, forget open
    values["linear.weight"][:] = [[5], [-5]]
    model = numba.build(arch, values)
    state = tuple(np.full((1, 1, 1), value, np.float32) for value in (0.38, 0.8))
    drift = 0.0
    for _ in range(16):
        _, state = model.step(np.zeros((1, 1 << 16), np.int64), state)
        drift = max(drift, abs(float(state[1][0, 0, 0]) - float(np.float32(0.8))))
    check(drift == 0, f"the state drifts by {drift:.3g}")
    return "a million tokens, the state is constant to the bit"


ATTACKS: dict[str, Callable[[Path], str]] = {
    "no code from the current folder": planted_code,
    "damaged compiled code": damaged_code,
    "a cache that others may write to": shared_cache,
    "settings of Matplotlib": matplotlib_settings,
    "a history of line ends": newlines,
    "a vocabulary of lists": nested_vocabulary,
    "a trainer state of 96 MB": large_state,
    "a checkpoint of a gigabyte": large_checkpoint,
    "all words different": different_words,
    "an inconsistent trainer state": contradictions,
    "odd machines": odd_machines,
    "a bounded time": bounded_time,
    "stopped while compiling": compiling,
    "latches": latches,
    "another user's folder": anothers_folder,
    "a model larger than the memory": too_large,
    "escapes to a terminal": escapes,
    "a store cut while it is read": unsound_stores,
    "leftovers of a kill": leftovers,
    "Ctrl-C in the first moment": first_moment,
    "fresh names": fresh_names,
    "values of the wrong kind": python_errors,
    "a long run without spaces": long_piece,
    "umask": private,
    "closed pipes": closed_pipes,
    "a closed terminal": hang_up,
}


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """A folder that vanishes."""
    folder = Path(tempfile.mkdtemp())
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Attack, and print a row for each; 0 where all claims held."""
    failed = 0
    print("| attack | held | outcome |\n|---|---|---|")
    for name in sys.argv[1:] or ATTACKS:
        with own_folder() as folder:
            try:
                row = ("yes", ATTACKS[name](folder))
            except Exception as error:
                failed += 1
                row = ("NO", f"{error}" if isinstance(error, AssertionError) else repr(error)[:150])
        outcome = row[1].replace(f"{folder}/", "").replace("\n", " ")
        print(f"| {name} | {row[0]} | {outcome} |", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

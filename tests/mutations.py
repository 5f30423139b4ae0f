"""Do the tests notice a change? Small changes to src, drawn by a seed, each tried on the tests.

    pytest --cov=elman --cov-context=test --cov-report= ...    # once: which tests run which line
    python -m tests.mutations --seed 1 --number 60 --coverage .coverage --out found.txt

Every room gets its share of the changes. A change is tried in a copy of the repository on the tests
that run its line, or, where no coverage tells (compiled kernels, frameworks), on those of its room.
"""

import argparse
import ast
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice, zip_longest
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

SECONDS = 900  # in which the tests of a change must end; one that hangs is found
FLIPPED = {
    **{ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="},
    **{ast.In: "not in", ast.NotIn: "in", ast.Is: "is not", ast.IsNot: "is"},
}
OF_ALL = ("tests/frameworks", "--framework")
KERNELS = ("tests/engine", *OF_ALL, "numba")
TESTS_OF_ROOMS = {  # the tests of a room whose name is not that of a folder of tests
    "kernels": KERNELS,
    "formats": ("tests/export", "tests/pages"),
    "numpy": ("tests/numpy_module", "tests/frameworks/test_parity.py", "--framework", "numba"),
    **{name: (f"tests/{name}_module", *OF_ALL, name) for name in ("torch", "tensorflow", "jax")},
    "mxnet": ("tests/mxnet_module", *OF_ALL, "mxnet"),
    "": ("tests/api", "tests/cli", "tests/package"),
}
NOT_COVERED = ("kernels", "torch", "tensorflow", "jax", "mxnet")


class Change(NamedTuple):
    """A span of a file, from one (line, column) to another, and the text in its place."""

    path: Path
    start: tuple[int, int]
    end: tuple[int, int]
    text: str

    @property
    def room(self) -> str:
        """The folder of src/elman in which the file is; empty for the files above all folders."""
        return self.path.parts[2] if len(self.path.parts) > 3 else ""


def drawn(repository: Path, seed: int, number: int) -> list[Change]:
    """Changes drawn by a seed: the rooms take turns, and in a room each place is as likely."""
    rooms: dict[str, list[Change]] = {}
    for path in sorted((repository / "src/elman").rglob("*.py")):
        for change in changes_of(path, path.relative_to(repository)):
            rooms.setdefault(change.room, []).append(change)
    for room, changes in rooms.items():
        random.Random(f"{seed} {room}").shuffle(changes)
    turns = zip_longest(*rooms.values())
    return list(islice(filter(None, chain.from_iterable(turns)), number))


def changes_of(path: Path, name: Path) -> Iterator[Change]:
    """All changes to a file: see `replacement`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for statement in function.body:
            for node in ast.walk(statement):
                if isinstance(node, ast.expr | ast.stmt):
                    text = replacement(node)
                    if text is not None:
                        start = node.lineno, node.col_offset
                        end = node.end_lineno or 0, node.end_col_offset or 0
                        yield Change(name, start, end, text)


def replacement(node: ast.AST) -> str | None:
    """A flipped comparison, a number off by one, swapped arguments or a dropped line."""
    match node:
        case ast.Compare(left=left, ops=[operator], comparators=[right]):
            return f"({ast.unparse(left)}) {FLIPPED[type(operator)]} ({ast.unparse(right)})"
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return str(value + 1)
        case ast.Call(func=function, args=[first, second, *others], keywords=keywords) if not any(
            isinstance(each, ast.Constant | ast.Starred) for each in (first, second)
        ):
            return ast.unparse(ast.Call(function, [second, first, *others], keywords))
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise():
            return "pass"
    return None


def apply(change: Change, repository: Path) -> None:
    """Write the changed file into a copy of the repository."""
    path = repository / change.path
    lines = path.read_bytes().splitlines(keepends=True)  # columns of ast count bytes
    (first, column), (last, end) = change.start, change.end
    before, after = lines[first - 1][:column], lines[last - 1][end:]
    lines[first - 1 : last] = [before + change.text.encode() + after]
    path.write_bytes(b"".join(lines))


def tests_by_line(coverage: Path, repository: Path) -> dict[tuple[str, int], set[str]]:
    """The tests that ran each line, by coverage.py's contexts."""
    from coverage.numbits import numbits_to_nums

    found: dict[tuple[str, int], set[str]] = {}
    query = "select path, context, numbits from line_bits join file on file.id = file_id " + (
        "join context on context.id = context_id where context != ''"
    )
    for path, context, numbits in sqlite3.connect(coverage).execute(query):
        name = str(Path(path).relative_to(repository))
        test = context.partition("|")[0].partition("[")[0]
        for line in numbits_to_nums(numbits):
            found.setdefault((name, line), set()).add(test)
    return found


def tests_of(change: Change, covered: Mapping[tuple[str, int], set[str]]) -> Sequence[str]:
    """Arguments of pytest: the tests that run the changed line, those of its room first."""
    lines = range(change.start[0], change.end[0] + 1)
    found = set().union(*(covered.get((str(change.path), line), set()) for line in lines))
    if change.room in NOT_COVERED or not found:
        return TESTS_OF_ROOMS.get(change.room, (f"tests/{change.room}",))
    ordered = sorted(found, key=lambda test: (f"tests/{change.room}/" not in test, test))
    return (*ordered, "--framework", "numba")


def outcome(change: Change, repository: Path, words: Sequence[str], python: str) -> str:
    """`found`, with the first test that failed, or `lives`."""
    original = (repository / change.path).read_bytes()
    apply(change, repository)
    arguments = repository / "arguments.txt"
    arguments.write_text("\n".join(words), encoding="utf-8")
    command = [python, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--timeout", "300"]
    env = {"PYTHONPATH": str(repository / "src"), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [*command, f"@{arguments}"],
            **{"cwd": repository, "env": {**os.environ, **env}},
            **{"capture_output": True, "text": True, "timeout": SECONDS, "check": False},
        )
    except subprocess.TimeoutExpired:
        return "found: hangs"
    finally:
        (repository / change.path).write_bytes(original)
    if done.returncode == 4:  # tests that are not there
        raise SystemExit(done.stdout + done.stderr)
    if done.returncode in (0, 5):
        return "lives"
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return f"found: {failed[0] if failed else done.stdout[-200:] + done.stderr[-200:]!r}"


def main() -> None:
    """Draw changes, try them two at a time, and write a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--number", type=int, default=60)
    parser.add_argument("--coverage", type=Path, help="of coverage.py, with contexts")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rooms", nargs="*", help="only these rooms")
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    repository = Path(__file__).parents[1]
    covered = tests_by_line(options.coverage, repository) if options.coverage else {}
    changes = drawn(repository, options.seed, options.number)
    with tempfile.TemporaryDirectory() as folder:
        copies: SimpleQueue[Path] = SimpleQueue()
        for each in range(2):
            copy = Path(folder, str(each))
            shutil.copytree(repository, copy, ignore=shutil.ignore_patterns(".git", ".venv*"))
            copies.put(copy)

        def tried(change: Change) -> None:
            copy = copies.get()
            said = outcome(change, copy, tests_of(change, covered), options.python)
            copies.put(copy)
            with options.out.open("a", encoding="utf-8") as out:
                place = f"{change.path}:{change.start[0]}"
                line = (repository / change.path).read_text().splitlines()[change.start[0] - 1]
                print(f"{place}  {line.strip()}  ->  {change.text!r}  {said}", file=out, flush=True)

        with ThreadPoolExecutor(2) as threads:
            wanted = [c for c in changes if options.rooms is None or c.room in options.rooms]
            list(threads.map(tried, wanted))


if __name__ == "__main__":
    main()

"""`elman next`: the likeliest tokens after a prefix."""

import sys
from math import exp
from pathlib import Path

import numpy as np
import pytest

import elman as package
from tests.cli.test_generate import in_terminal
from tests.conftest import Command


def test_the_likeliest_tokens_come_first_with_their_probabilities(
    elman: Command, run: Path
) -> None:
    model = package.load(run)
    size = len(model.codec.vocab)
    done = elman("next", run, "Once upon", "--top", str(size + 9))
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert rows[0][0] == " "
    assert len(rows) == size
    assert sorted(token for token, *_ in rows if len(token) > 1) == ["<unk>", "\\n"]
    values = [float(value) for *_, value in rows]
    assert values == sorted(values, reverse=True)
    assert sum(map(exp, values)) == pytest.approx(1, abs=1e-3)
    percents = [float(percent.removesuffix("%")) for _, percent, _ in rows]
    assert percents == pytest.approx([100 * exp(value) for value in values], abs=0.02)
    logits = model.step(np.array([model.codec.prefix_ids("Once upon")]))[0][0, -1].astype(float)
    wanted = np.sort(logits - np.log(np.exp(logits).sum()))[::-1]
    assert values == pytest.approx(wanted.tolist(), abs=1e-3)
    assert elman("next", run, "Once upon", "--top", "2", "--framework", "numpy").stdout == (
        "".join("\t".join(row) + "\n" for row in rows[:2])
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_terminal_shows_the_tokens_in_a_table(elman: Command, run: Path, tmp_path: Path) -> None:
    words = ("next", str(run), "Once upon", "--top", "3", "--framework", "numpy")
    rows = [line.split("\t") for line in elman(*words).stdout.splitlines()]
    command = [sys.executable, "-P", "-m", "elman", *words]
    header, *lines = in_terminal(command, tmp_path).decode().split("\r\n")[:-1]
    assert header.split() == ["token", "probability", "nats"]
    assert [line[:5].rstrip() or " " for line in lines] == [token for token, *_ in rows]
    assert [line[5:].split() for line in lines] == [numbers for _, *numbers in rows]
    assert {len(line) for line in lines} == {len(header)}


def test_a_prefix_that_cannot_be_read_is_refused(elman: Command, run: Path) -> None:
    for prefix, told in (
        ("", "the prefix is empty: give at least one symbol to begin with"),
        ("Z", "the model does not know 'Z' in the prefix"),
    ):
        done = elman("next", run, prefix, "--framework", "numpy")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"elman: {told}")

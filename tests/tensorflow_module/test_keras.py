"""Importing the module chooses the book's Keras, unless the user has chosen."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Command


def run(code: str) -> str:
    """Output of a new process in which no Keras has been chosen."""
    environment = {name: value for name, value in os.environ.items() if "KERAS" not in name}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_keras_2_is_chosen_whatever_is_imported_first() -> None:
    code = """
import tensorflow as tf
from elman import tensorflow as d2l
from tensorflow.keras.layers import LSTM
print(LSTM.__module__, tf.keras.layers.LSTM is LSTM, issubclass(d2l.Module, tf.keras.Model))
"""
    assert run(code) == "tf_keras.src.layers.rnn.lstm True True"


def test_a_keras_that_is_already_imported_is_used() -> None:
    code = """
import tensorflow as tf
Model = tf.keras.Model
from elman import tensorflow as d2l
print(Model.__module__, issubclass(d2l.Module, Model))
"""
    assert run(code) == "keras.src.models.model True"


def test_the_command_line_reads_no_settings_of_keras(
    elman_process: Command, story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keras.json").write_text('{"floatx": "float64"}')
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    words = ("--framework", "tensorflow", "--epochs", "1", "--optimizer", "adam", "--hidden", "4")
    words += ("--recipe", "book", "--embedding", "4", "--tied", "--batch-size", "16")
    done = elman_process("train", story, *words)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("tensorflow", 'tensorflow is not installed: pip install "tensorflow>='),
        ("tf_keras", '"tf-keras>=2.20", or set TF_USE_LEGACY_KERAS=0 for Keras 3'),
    ],
)
def test_a_missing_package_is_named_with_its_extra(missing: str, message: str) -> None:
    code = f"""
import sys
sys.modules["{missing}"] = None
import elman
try:
    elman.framework_module("tensorflow")
except elman.ElmanError as error:
    print(error)
"""
    assert message in run(code)

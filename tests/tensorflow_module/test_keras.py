"""Importing the module chooses the book's Keras, unless the user has chosen."""

import os
import subprocess
import sys

import pytest


def run(code: str) -> str:
    """What a new process prints in which no Keras has been chosen."""
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


def test_a_keras_in_use_stays() -> None:
    code = """
import tensorflow as tf
Model = tf.keras.Model
from elman import tensorflow as d2l
print(Model.__module__, issubclass(d2l.Module, Model))
"""
    assert run(code) == "keras.src.models.model True"


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("tensorflow", 'tensorflow is not installed: pip install "tensorflow>='),
        ("tf_keras", '"tf-keras>=2.20", or set TF_USE_LEGACY_KERAS=0 for Keras 3'),
    ],
)
def test_what_is_not_installed_is_named(missing: str, message: str) -> None:
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

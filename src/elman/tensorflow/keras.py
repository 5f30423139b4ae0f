"""Version of Keras in use."""

import inspect

import tensorflow as tf

KERAS_3 = "time_major" not in inspect.signature(tf.keras.layers.RNN).parameters

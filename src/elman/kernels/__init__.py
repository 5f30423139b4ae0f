"""Kernels of the engine, compiled by Numba, which is imported here first.

Rooms, each of which imports only those below it:

    host      Python around the kernels: weight layout, `Engine`; no compiled code
    rnn       a language model as compiled code: training, scoring, sampling, steps of optimizers;
              starts no thread
    codegen   instructions on register tiles, threads, the cache of compiled code; knows no cell

Terms used throughout:

    tile      small float32 matrix held in vector registers
    S, T, U   tile shapes: S of the layers, T of the output layer, whose tile may have fewer rows,
              U of the steps of a layer where they are cut otherwise than other products
    position  a sequence at a step; the positions of a step follow those of the step before
    operand   matrix as products read it: of floats, or of pairs of bfloat16s
    part      work that one thread does at a time; parts of a phase may run in any order
    panel     columns of a matrix that are as wide as a tile, (depth, width), stored contiguously
    pair      32 bits that hold two bfloat16s, of the depths 2q (lower half) and 2q + 1
    block     `hidden` columns that hold one part of a gate's pre-activation
    group     32 sequences, or fewer, that run together through all layers and steps, so that
              their states stay in the cache
    slot      a set of gradient accumulators; slot k adds up groups k, k + slots, k + 2 slots, ...
    span      consecutive steps whose parts of a weight's gradient are added at once
    piece     block of a weight's matrix that is copied or summed in one loop
    pack      copy weights from canonical order into the order in which kernels read them
    sum       add the slots up, in order, into gradients in canonical order
    h_T       transposed states, (hidden, sequences); likewise logits_T
"""

import sys
import warnings
from importlib import import_module
from typing import Any


def _numba() -> Any:
    """Import Numba without reading settings from the current folder, which others may control.

    Numba reads `.numba_config.yaml` on import and before each compilation. It skips the file if
    it cannot import a YAML library, or has no name for the file.
    """
    if "numba" in sys.modules:  # imported by the user, whose settings stand
        return import_module("numba")
    yaml = sys.modules.pop("yaml", None)
    sys.modules["yaml"] = None  # type: ignore[assignment]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "A Numba config file is found")
            numba = import_module("numba")
    finally:
        del sys.modules["yaml"]
        if yaml is not None:
            sys.modules["yaml"] = yaml
    numba.config._config_fname = ""
    return numba


numba = _numba()

"""Kernels of the engine, compiled by Numba. This package imports Numba first.

Packages, each of which imports only from those below it:

    host      Python around the kernels: weight layout, `Engine`; no compiled code
    rnn       a language model as compiled code: training, scoring, sampling, optimizer steps;
              starts no threads
    codegen   instructions on register tiles, threads, the cache of compiled code; independent of
              cells

Terms used throughout:

    tile      small float32 matrix held in vector registers
    S, T, U   tile shapes: S for the layers; T for the output layer, where a tile may have fewer
              rows; U for the steps of a layer, if they are partitioned differently
    position  one sequence at one step; positions are ordered by step, then by sequence
    operand   matrix in the form that products read: floats, or pairs of bfloat16s
    part      unit of work for one thread; the parts of a phase may run in any order
    panel     as many columns of a matrix as a tile is wide, (depth, width), stored contiguously
    pair      32 bits that hold two bfloat16s, for the depths 2q (lower half) and 2q + 1
    block     `hidden` columns that hold one component of a gate's pre-activation
    group     32 sequences, or fewer, that run together through all layers and steps, so that
              their states stay in the cache
    slot      a set of gradient accumulators; slot k adds up groups k, k + slots, k + 2 slots, ...
    span      consecutive steps whose contributions to a weight gradient are added together
    piece     block of a weight's matrix that is copied or summed in one loop
    pack      copy weights from canonical order into the order in which kernels read them
    sum       add the slots, in order, to get gradients in canonical order
    h_T       transposed states, (hidden, positions or more); likewise logits, (tokens, positions)
"""

import sys
import warnings
from importlib import import_module
from typing import Any


def _numba() -> Any:
    """Import Numba without reading settings from the current folder: others may control it.

    Numba reads `.numba_config.yaml` on import and before each compilation. It skips the file if
    it cannot import a YAML library, or has no name for the file.
    """
    if "numba" in sys.modules:  # imported by the user: keep the user's settings
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

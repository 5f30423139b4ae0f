"""The commands as functions: `elman.train`, `elman.compare`, ...

A function takes the options of its command by name, with the same defaults and checks.
"""

from elman.api.commands import (
    evaluate,
    export,
    info,
    load_pairs,
    plan,
    prepare,
    score,
    translate,
)
from elman.api.comparison import compare
from elman.api.run import Run
from elman.api.run import open_run as open  # noqa: A004
from elman.api.serving import serve
from elman.api.sweeping import sweep
from elman.api.training import resume, train

__all__ = [
    "Run",
    "compare",
    "evaluate",
    "export",
    "info",
    "load_pairs",
    "open",
    "plan",
    "prepare",
    "resume",
    "score",
    "serve",
    "sweep",
    "train",
    "translate",
]

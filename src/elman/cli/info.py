"""`elman info`: frameworks, versions and devices."""

import sys
from typing import Any

from elman import __version__
from elman.cli.options import Json
from elman.cli.output import print_json
from elman.core.errors import ElmanError
from elman.core.experiments.frameworks import FRAMEWORKS, framework_module


def info(as_json: Json = False) -> None:
    """List the usable frameworks, their versions and devices."""
    python = sys.version.split()[0]
    found = {name: _describe(name) for name in FRAMEWORKS}
    if as_json:
        print_json({"elman": __version__, "python": python, "frameworks": found})
        return
    print(f"elman      {__version__}  (Python {python})")
    for name, facts in found.items():
        line = facts.get("error") or f"{facts['version']}  {', '.join(facts['devices'])}"
        print(f"{name:<10} {line}")


def _describe(name: str) -> dict[str, Any]:
    """Version and devices of a framework, or the error with which it does not load."""
    try:
        module = framework_module(name)
    except ElmanError as error:
        return {"error": str(error)}
    return {"version": module.version(), "devices": module.devices()}

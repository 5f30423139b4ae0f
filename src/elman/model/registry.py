"""Cells by name: built in, registered by a user, or from an installed package.

A custom cell is a `Cell` that `register` adds under its name. Installed packages provide cells
through entry points in the group `elman.cells`.
"""

from pathlib import Path
from typing import Any

from elman.errors import ElmanError, shortened
from elman.model.cells import CELLS, Cell, CellError
from elman.terms import Either

ENTRY_POINTS = "elman.cells"  # group of the entry points through which packages provide cells
REGISTER = Either(
    shell="import the module that registers it, or give elman --cells FILE.py",
    python="import the module that registers it",
)
_registered: dict[str, Cell] = {}


def register(cell: Cell) -> None:
    """Add a cell under its name, for every framework and command in this process.

    The same code may register it again, for example when a notebook reruns a cell. Raises an
    ElmanError if the name is taken, or if the equations fail on small arrays, are random, or mix
    the rows of a batch.
    """
    from elman.model.cell_checks import check_equations  # imports NumPy

    if not isinstance(cell, Cell):
        raise ElmanError(f"register takes an elman.Cell, got {cell!r}")
    taken = CELLS.get(cell.name) or _registered.get(cell.name, cell)
    if _source(taken) != _source(cell):
        raise ElmanError(
            f"the name {cell.name} is already used by a cell of {_source(taken)[0]}: choose another"
        )
    check_equations(cell)
    _registered[cell.name] = cell


def register_file(path: Path) -> None:
    """Run a Python file that registers cells; an ElmanError if it fails or registers none."""
    import runpy  # only the command line needs it

    if not path.is_file():
        raise ElmanError(f"there is no file {path}: give a Python file that calls elman.register")
    before = dict(_registered)
    try:
        runpy.run_path(str(path), run_name=path.stem)
    except ElmanError:
        raise
    except (Exception, SystemExit) as error:  # a file may raise anything
        raise ElmanError(
            f"the cells of {path} do not load: {type(error).__name__}: {error}"
        ) from error
    if _registered == before:
        raise ElmanError(f"{path} registers no cell: call elman.register in it")


def _source(cell: Cell) -> tuple[str, str]:
    """Module and name of the function that contains the equations."""
    equations: Any = cell.linear or cell.step
    return str(equations.__module__), getattr(equations, "__qualname__", repr(equations))


def cell_named(name: Any) -> Cell:
    """The cell with this name: built in, registered, or from an installed package.

    Raises an ElmanError if there is none. A package is imported only for its own names.
    """
    if not isinstance(name, str):
        raise _unknown(name)
    found = CELLS.get(name) or _registered.get(name)
    if found is None:
        _register_installed(name)
        found = _registered.get(name)
    if found is None:
        raise _unknown(name)
    return found


def check_cell(cell: Any) -> None:
    """Raise an ElmanError unless `cell` is the name of a cell."""
    cell_named(cell)


def _unknown(name: Any) -> CellError:
    return CellError(f"the cell {shortened(name)} is not registered: ", REGISTER)


def _register_installed(name: str) -> None:
    """Register the cell with this name from an installed package, if there is one."""
    from importlib import metadata  # slower to import than the rest of the package

    for point in metadata.entry_points(group=ENTRY_POINTS, name=name):
        try:
            cell = point.load()
        except Exception as error:  # a package may raise anything
            raise ElmanError(
                f"the cell {name} of the installed {point.value} does not load: {error}"
            ) from error
        if not isinstance(cell, Cell) or cell.name != name:
            raise ElmanError(
                f"the entry point {name} of {ENTRY_POINTS} must be an elman.Cell with this name, "
                f"got {cell!r} from {point.value}"
            )
        register(cell)

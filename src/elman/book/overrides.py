"""Methods of this package's classes that a user has replaced, in a subclass or on the class."""

from collections.abc import Iterable


class Originals:
    """Some attributes of a class as they are now, before a user could replace them.

    They are compared on each call (about a microsecond), so that a method that is replaced during a
    training is noticed, too.
    """

    def __init__(self, owner: type, names: Iterable[str]) -> None:
        self.found = {name: getattr(owner, name) for name in names if hasattr(owner, name)}

    def replaced_in(self, kind: type) -> str | None:
        """Name of the first that differs or is missing in a class; None if all are the same."""
        for name, original in self.found.items():
            if getattr(kind, name, None) is not original:
                return name
        return None

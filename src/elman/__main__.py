"""`elman` and `python -m elman`: the command line, which Ctrl-C ends in order from the start."""

import os
import signal
from typing import Any


def main() -> None:
    """Run the command line; until it is imported, which takes a moment, Ctrl-C ends the process.

    An exception would be told with a traceback by whatever module is being imported.
    """
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _end)
    from elman import cli

    cli.main()


def _end(number: int, frame: Any) -> None:
    os.write(2, b"elman: interrupted, nothing kept\n")
    os._exit(130)


if __name__ == "__main__":
    main()

"""Entry point of `elman` and `python -m elman`."""

import os
import signal
from typing import Any


def main() -> None:
    """Run the command line; Ctrl-C during its import ends the process with one line.

    An exception would be printed as a traceback by the module that is being imported.
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

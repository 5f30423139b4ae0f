"""`elman serve`: runs over HTTP."""

import logging
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from elman.cli.options import RUN, with_settings
from elman.errors import not_installed
from elman.server.access import Access, Limits

log = logging.getLogger("elman")


@partial(with_settings, kind=Limits)
def serve(
    runs: Annotated[list[Path], typer.Argument(help="Run directories.", **RUN)],
    host: Annotated[str, typer.Option(help="Address; 0.0.0.0 serves other machines.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port; 0 is any free one.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(help="Key that requests need. [default: the variable ELMAN_API_KEY]"),
    ] = None,
    metrics_key: Annotated[
        str | None,
        typer.Option(help="Key for /metrics; none opens it. [default: the API key]"),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Host name to answer to, besides localhost; may be repeated.",
        ),
    ] = None,
    **limits: Any,
) -> None:
    """Serve models to clients of OpenAI's completions API.

    A model has the name of its run directory. Its page is at /.
    """
    access, checked = Access.of(api_key, metrics_key, allowed_host or ()), Limits(**limits)
    try:
        from elman.server import serving
    except ModuleNotFoundError as error:
        raise not_installed("serve", error, cure="") from error
    models = serving.load_models(runs)

    def listening(address: str) -> None:
        log.info("serving %s at %s", ", ".join(models), address)

    serving.serve(models, host, port, checked, access, listening)

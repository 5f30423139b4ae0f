"""Pages in a browser, which is started once."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from elman.formats import export
from tests.export.models import saved
from tests.pages.chromium import launch

Show = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, started once for all tests of a process."""
    with sync_playwright() as playwright:
        yield launch(playwright)


@pytest.fixture
def show(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Show]:
    """Show the page of a model; `options` are those of a window.

    No page may request anything but itself, or tell of an error.
    """
    opened: list[str] = []
    requested: list[str] = []
    told: list[str] = []

    def show(model: Any, name: str = "run", **options: Any) -> Page:
        folder: Path = tmp_path_factory.mktemp("page")
        run = saved(folder, model).rename(folder / name)
        opened.append(export(run, "html", folder / "page.html").as_uri())
        page = browser.new_context(**options).new_page()
        page.on("request", lambda request: requested.append(request.url))
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.goto(opened[-1])
        return page

    yield show
    for context in browser.contexts:
        context.close()
    assert requested == opened
    assert told == []

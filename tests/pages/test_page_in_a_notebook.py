"""The page in a cell of a notebook."""

from html import escape
from pathlib import Path
from typing import Any

import nbformat
import pytest
from examples.notebooks.refresh import FOLDER, REMOVE_OUTPUT
from IPython.display import IFrame
from playwright.sync_api import Browser, expect

from elman.formats.html import page
from tests.export.models import model_of, saved


def test_the_page_works_in_the_cell_that_shows_it(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    saved(tmp_path, model_of("gru")).rename("runs/book")
    notebook = nbformat.read(FOLDER / "own-text.ipynb", as_version=4)
    (cell,) = [c for c in notebook.cells if REMOVE_OUTPUT in c.metadata.get("tags", ())]
    *lines, last = cell.source.splitlines()
    names: dict[str, Any] = {"escape": escape, "IFrame": IFrame, "page": page, "Path": Path}
    exec("\n".join(lines), names)
    told: list[str] = []
    outside = browser.new_context().new_page()
    outside.on("console", lambda message: told.append(message.text))
    outside.on("pageerror", lambda error: told.append(str(error)))
    outside.set_content(eval(last, names)._repr_html_())
    inside = outside.frame_locator("iframe")
    inside.locator("#text").fill("Once upon")
    expect(inside.locator("#reading")).to_have_text("Once upon")
    expect(inside.locator("#odds li:not([hidden])").first).to_be_visible()
    outside.context.close()
    assert told == []

"""The page for everybody: by keyboard alone, on small screens, in light and in dark."""

import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.export.models import model_of
from tests.pages.conftest import Show

WINDOWS = {"phone": {"width": 360, "height": 740}, "desktop": {"width": 1280, "height": 900}}


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the element with this id, name or value has the focus."""
    told = "[document.activeElement.id, document.activeElement.name, document.activeElement.value]"
    for _ in range(40):
        page.keyboard.press("Tab")
        if name in page.evaluate(told):
            return
    raise AssertionError(f"Tab does not reach {name}")


def test_the_keyboard_alone_does_everything(show: Show) -> None:
    page = show(model_of("gru"))
    tab_to(page, "text")
    page.keyboard.type("Once upon")
    assert page.locator("#reading").text_content() == "Once upon"
    tab_to(page, "temperature")
    page.keyboard.press("Home")
    assert page.inner_text("#temperature-value") == "0.00"
    tab_to(page, "count")
    page.keyboard.press("Control+A")
    page.keyboard.type("20")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")  # on the button that writes
    expect(page.locator("#status")).to_have_text("The model wrote 20 symbols.")
    tab_to(page, "position")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#odds-title") == "Symbol 29"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # on the likeliest symbol
    expect(page.locator("#odds-title")).to_have_text("Next symbol")
    tab_to(page, "unit")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#unit-note").startswith("unit 2: ")
    page.keyboard.press("Tab")
    tab_to(page, "color")
    page.keyboard.press("ArrowLeft")
    assert page.is_checked("[value=surprise]")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("color", "sides"), [("surprise", 1), ("unit", 2)])
def test_axe_finds_nothing_serious_and_symbols_can_be_read_on_the_strongest_colors(
    show: Show, window: str, scheme: str, color: str, sides: int
) -> None:
    page = show(model_of("gru"), viewport=WINDOWS[window], color_scheme=scheme)
    expect(page.locator("#status")).to_have_text("The model wrote 300 symbols.")
    page.click(f"[value={color}]")
    page.locator("#reading span").nth(20).click()
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert serious == []
    assert page.evaluate("document.documentElement.scrollWidth") <= WINDOWS[window]["width"]
    page.evaluate("[...view.symbols.children].forEach((each, n) => setLevel(each, n % 2 || -1))")
    told = """(symbols) => symbols.map((symbol) => {
      const { color, backgroundColor } = getComputedStyle(symbol);
      return [color, backgroundColor];
    })"""
    colors = {tuple(pair) for pair in page.locator("#reading span").evaluate_all(told)}
    assert len(colors) == sides
    for pair in colors:
        darker, lighter = sorted(map(luminance, pair))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5  # level AA


def luminance(color: str) -> float:
    """Relative luminance of "rgb(red, green, blue)", by WCAG 2."""
    shares = [int(number) / 255 for number in re.findall(r"\d+", color)]
    red, green, blue = (
        share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_controls_have_names_and_values_for_screen_readers(show: Show) -> None:
    page = show(model_of("gru"))
    page.fill("#text", "Once upon")
    for role, name in (
        *(("textbox", "Your text"), ("slider", "Temperature"), ("spinbutton", "Symbols")),
        *(("slider", "Position"), ("slider", "Unit"), ("radio", "surprise")),
        *(("region", "As the model reads it"), ("heading", "Next symbol"), ("status", None)),
    ):
        assert page.get_by_role(role, name=name, exact=True).count() >= 1, (role, name)
    first = page.locator("#odds button").first
    assert first.get_attribute("aria-label") is not None
    page.focus("#position")
    assert page.get_attribute("#position", "aria-valuetext") == "the next symbol"
    page.keyboard.press("ArrowLeft")
    told = page.get_attribute("#position", "aria-valuetext") or ""
    assert told.startswith("symbol 9 of 9, n, ")
    assert told.endswith(" bits")

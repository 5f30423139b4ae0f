"""The page: what a person types, sees, chooses and has written."""

from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from elman.inference.language_model import log_probabilities
from tests.export.models import model_of
from tests.pages.conftest import Show

PREFIX = "Once upon a time"
HOSTILE = ["</script><script>hacked=1</script>", "<img/src=x/onerror='hacked=1'>", "<!--"]
HOSTILE += ['"', "\u2028", "\x00", "\x1b[31m", "{{script}}"]
LEVEL = """(element) => element.style.getPropertyValue("--level") *
  (element.classList.contains("negative") ? -1 : 1)"""


@pytest.fixture
def model() -> Any:
    return model_of("gru", layers=2, embedding=5)


@pytest.fixture
def page(show: Show, model: Any) -> Page:
    """The page of the model, with a text."""
    page = show(model)
    page.fill("#text", PREFIX)
    return page


def slide(page: Page, selector: str, value: float) -> None:
    """Move a slider."""
    moved = "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')) }"
    page.locator(selector).evaluate(moved, value)


def write(page: Page, symbols: int) -> None:
    """Have the model write, and wait for the last symbol."""
    page.fill("#count", str(symbols))
    page.click("#write")
    expect(page.locator("#status")).to_have_text(f"The model wrote {symbols} symbols.")


def text_of(page: Page) -> str | None:
    return page.locator("#reading").text_content()


def symbols_of(page: Page) -> list[dict[str, Any]]:
    """Text, level and side of each symbol of the reading."""
    told = f"""(symbols) => symbols.map((symbol) => ({{
      text: symbol.textContent,
      written: symbol.classList.contains("written"),
      level: ({LEVEL})(symbol),
      color: getComputedStyle(symbol).backgroundColor,
    }}))"""
    found: list[dict[str, Any]] = page.locator("#reading span").evaluate_all(told)
    return found


def rows_of(page: Page) -> list[tuple[str, float]]:
    """Symbols of the list of odds, each with its share in percent."""
    told = """(rows) => rows.map((row) => [row.querySelector(".symbol").textContent,
      row.querySelector(".share").textContent.replace("<", "")])"""
    rows = page.locator("#odds li:not([hidden])").evaluate_all(told)
    return [(symbol, float(share.removesuffix(" %"))) for symbol, share in rows]


def test_the_odds_after_a_text_are_the_models(page: Page, model: Any) -> None:
    assert page.inner_text("#odds-title") == "Next symbol"
    best = model.next(PREFIX, 10)
    labels = [model.codec.spelling(each.id).replace(" ", "␣") for each in best]
    assert [symbol for symbol, _ in rows_of(page)] == labels
    shares = [100 * np.exp(each.log_probability) for each in best]
    assert [share for _, share in rows_of(page)] == pytest.approx(shares, abs=0.11)
    bars = page.locator("#odds .bar").evaluate_all(
        "(bars) => bars.map((bar) => bar.style.getPropertyValue('--share'))"
    )
    assert [100 * float(share) for share in bars[:10]] == pytest.approx(shares, abs=0.1)
    assert page.evaluate("likeliest([0.2, 0.2, 0.4, 0.2], 3)") == [2, 0, 1]  # the lower id first


def test_each_symbol_is_colored_by_its_surprise(page: Page, model: Any) -> None:
    ids = np.array(model.codec.prefix_ids(PREFIX))
    known = log_probabilities(model.step(ids[None])[0][0])  # (symbols, vocab)
    bits = -known[np.arange(len(ids) - 1), ids[1:]] / np.log(2)
    symbols = symbols_of(page)
    assert "".join(symbol["text"] for symbol in symbols) == PREFIX
    assert [symbol["level"] for symbol in symbols[1:]] == pytest.approx(
        np.minimum(bits / 8, 1), abs=0.002
    )
    assert symbols[0]["level"] == 0  # nothing predicts it
    assert len({symbol["color"] for symbol in symbols}) > 5


def test_units_color_the_text_and_show_their_activation_at_the_place(
    page: Page, model: Any
) -> None:
    states = model.hidden_states(PREFIX)[1]  # of the second layer
    unit = next(n for n in range(8) if states[:, n].min() < 0 < states[:, n].max())
    slide(page, "#unit", 8 + unit)
    states = states[:, unit]
    assert page.is_checked("[value=unit]")
    name, value = page.inner_text("#unit-note").split(": ")
    assert name == f"layer 2, unit {unit + 1}"
    assert float(value) == pytest.approx(states[-1], abs=0.002)
    symbols = symbols_of(page)
    levels = states / np.abs(states).max()
    assert [symbol["level"] for symbol in symbols] == pytest.approx(levels, abs=0.002)
    page.click("[value=surprise]")
    colors = [[symbol["color"] for symbol in each] for each in (symbols, symbols_of(page))]
    assert colors[0] != colors[1]
    page.locator("#reading span").nth(4).click()
    states = model.hidden_states(PREFIX)[:, 4].ravel()
    found = page.locator("#units i").evaluate_all(f"(units) => units.map({LEVEL})")
    assert found == pytest.approx(states / np.abs(states).max(), abs=0.002)
    page.locator("#units i").nth(5).click()
    name, value = page.inner_text("#unit-note").split(": ")
    assert name == "layer 1, unit 6"
    assert float(value) == pytest.approx(states[5], abs=0.002)


def test_the_likeliest_text_is_the_models(page: Page, model: Any) -> None:
    slide(page, "#temperature", 0)
    write(page, 120)
    (wanted,) = model.generate(PREFIX, tokens=120, temperature=0)
    assert text_of(page) == wanted
    assert [symbol["written"] for symbol in symbols_of(page)] == [
        place >= len(PREFIX) for place in range(len(wanted))
    ]


def test_a_symbol_that_was_written_shows_its_alternatives(page: Page, model: Any) -> None:
    write(page, 50)
    text = text_of(page)
    assert text is not None
    place = next(n for n in range(len(PREFIX) + 9, len(text)) if text[n] != "\n")
    page.locator("#reading span").nth(place).click()
    assert page.inner_text("#odds-title") == f"Symbol {place + 1}"
    shares = {
        model.codec.spelling(each.id): 100 * np.exp(each.log_probability)
        for each in model.next(text[:place], len(model.codec.vocab))
    }
    rows = rows_of(page)[:10]  # two symbols with nearly the same share may change places
    assert [share for _, share in rows] == pytest.approx(list(shares.values())[:10], abs=0.11)
    chosen = [shares[symbol.replace("␣", " ")] for symbol, _ in rows]
    assert [share for _, share in rows] == pytest.approx(chosen, abs=0.11)
    assert page.inner_text("#odds .own .symbol").replace("␣", " ") == text[place]
    page.keyboard.press("ArrowLeft")  # from the slider, to which the click has led
    assert page.inner_text("#odds-title") == f"Symbol {place}"


def test_another_symbol_may_take_the_place_of_a_written_one(page: Page) -> None:
    write(page, 50)
    before = text_of(page)
    assert before is not None
    slide(page, "#position", len(PREFIX) + 5)
    others = page.locator("#odds li:not(.own):not([hidden]) button:enabled")
    symbol = others.first.locator(".symbol").inner_text().replace("␣", " ").replace("\\n", "\n")
    others.first.click()
    assert text_of(page) == before[: len(PREFIX) + 5] + symbol
    slide(page, "#position", 3)  # in the person's own text
    assert others.count() == 0


def test_what_was_written_is_kept_removed_or_dropped_with_the_text_before_it(
    page: Page,
) -> None:
    write(page, 30)
    page.click("#remove")
    assert text_of(page) == PREFIX
    write(page, 30)
    written = text_of(page)
    page.click("#keep")
    assert page.input_value("#text") == text_of(page) == written
    assert not any(symbol["written"] for symbol in symbols_of(page))
    write(page, 30)
    again = (text_of(page) or "")[:50]
    page.fill("#text", again)
    assert text_of(page) == again
    assert not any(symbol["written"] for symbol in symbols_of(page))
    page.fill("#text", PREFIX + "!")
    assert text_of(page) == PREFIX + "<unk>"
    assert page.inner_text("#hint") == "Symbols that the model does not know: 1."


CLOCK = "let now = 0; performance.now = () => (now += 1)"  # eleven symbols in a turn


def test_writing_and_reading_a_long_text_can_be_stopped(page: Page) -> None:
    page.evaluate(CLOCK)
    page.evaluate("byId('write').click(); byId('write').click()")
    assert page.inner_text("#write") == "Write on"
    assert page.inner_text("#status") == "The model wrote 11 symbols."
    assert len(text_of(page) or "") == len(PREFIX) + 11
    page.click("#remove")
    page.evaluate(
        f"byId('text').value = 'Z{PREFIX}'; byId('text').dispatchEvent(new Event('input'));"
        "byId('write').click()"
    )
    assert text_of(page) == f"Z{PREFIX}"[:11]
    assert page.is_disabled("#remove")  # the model has written nothing


def test_a_page_holds_a_bounded_number_of_symbols(page: Page) -> None:
    page.evaluate("reading.room = 40")
    page.fill("#text", PREFIX * 9)
    assert page.inner_text("#hint") == "The page holds the first 40 symbols."
    assert text_of(page) == (PREFIX * 9)[:40]
    page.click("#write")
    expect(page.locator("#status")).to_have_text(
        "The model wrote 0 symbols, and the page holds no more than 40."
    )


def test_a_model_of_lines_has_odds_for_the_first_symbol(show: Show) -> None:
    model = model_of("gru", lines=True)
    page = show(model)
    page.click("#remove")
    best = [model.codec.spelling(each.id) for each in model.next("", 10)]
    assert [symbol.replace("␣", " ") for symbol, _ in rows_of(page)] == best
    page.fill("#text", "Once\nZo")
    best = [model.codec.spelling(each.id) for each in model.next("Zo", 10)]
    assert [symbol.replace("␣", " ") for symbol, _ in rows_of(page)] == best


def test_a_page_begins_with_a_text_of_the_model(show: Show, model: Any) -> None:
    page = show(model)
    expect(page.locator("#status")).to_have_text("The model wrote 300 symbols.")
    text = text_of(page)
    assert text is not None
    assert text[0] == "\n"  # as after another line
    assert set(text) <= set(model.codec.vocab.idx_to_token)
    page.click("#remove")
    assert "has read nothing yet" in page.inner_text("#odds-note")


def test_tokens_and_names_are_shown_as_text_whatever_they_contain(show: Show) -> None:
    model = model_of("rnn", tokenizer="word")
    vocab = model.codec.vocab
    words = [token for token in vocab.idx_to_token if token != "<unk>"]
    tokens = sorted(["<unk>", *words[:-8], *HOSTILE])
    vocab.idx_to_token = tokens
    vocab.token_to_idx = {token: number for number, token in enumerate(tokens)}
    bias = model.parameters["linear.bias"]
    bias[:] = [9 if token in HOSTILE else 0 for token in tokens]
    name = "<b>{{data}}&amp;\"' "
    page = show(model, name)
    page.fill("#text", "O")
    assert page.inner_text("h1") == page.title() == name.strip()
    shown = {symbol for symbol, _ in rows_of(page)}
    spelled = {model.codec.spelling(vocab[token]).replace(" ", "␣") for token in HOSTILE}
    assert spelled <= shown
    assert r"\u2028" in shown
    assert r"\x00" in shown
    numbers = "let seed = 1; Math.random = () => (seed = (seed * 16807) % 2147483647) / 2147483647"
    page.evaluate(numbers)
    write(page, 60)
    assert HOSTILE[0] in (text_of(page) or "")
    assert page.locator("script").count() == 4
    assert page.locator("img, h1 *").count() == 0
    assert page.evaluate("typeof hacked") == "undefined"

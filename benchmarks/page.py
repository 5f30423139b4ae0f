"""Symbols a second that a page writes in headless Chromium, and the delay of what a person does.

    python benchmarks/page.py [--rounds N]

The model is a GRU of 256 hidden units with an embedding of 64, of 65 characters. In each round the
page writes 5,000 symbols, and meanwhile notes the longest time in which it reacts to nothing.
Prints the symbols a second, by the clock, and that time of each round.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from measuring import print_machine
from playwright.sync_api import expect, sync_playwright

import elman
from elman import numpy as specification
from elman.formats import export
from elman.model.weights import Architecture, initial
from elman.text.codec import Codec
from elman.text.vocab import Vocab

SYMBOLS = 5000
CHARACTERS = [*map(chr, range(ord("!"), ord("!") + 63)), "\n"]  # and the unknown symbol
WRITE = f"""async () => {{
  let longest = 0;
  let last = performance.now();
  const started = last;
  byId("count").value = {SYMBOLS};
  byId("write").click();
  while (work) {{
    await new Promise((resolve) => setTimeout(resolve));
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }}
  byId("remove").click();
  return [{SYMBOLS} / (last - started) * 1000, longest];
}}"""


def write_page(folder: Path) -> Path:
    """Write the page of a model that has the weights that a training would begin with."""
    codec = Codec(Vocab(CHARACTERS), "char", clean=False)
    arch = Architecture("gru", len(codec.vocab), 256, embedding=64)
    model = specification.build(arch, initial(arch))
    model.codec = codec
    elman.save(folder / "run", model)
    return export(folder / "run", "html", folder / "page.html")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print_machine({"playwright": sys.executable})
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page()
        page.goto(write_page(Path(folder)).as_uri())
        expect(page.locator("#status")).to_have_text("The model wrote 300 symbols.")
        page.fill("#text", "THE TIME")
        for _ in range(rounds):
            speed, longest = page.evaluate(WRITE)
            print(f"{speed:,.0f} symbols a second, {longest:.0f} ms at most without a reaction")


if __name__ == "__main__":
    main()

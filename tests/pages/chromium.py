"""The browser of the tests of pages. `python -m tests.pages.chromium` fails unless it starts."""

import shutil

from playwright.sync_api import Browser, Playwright, sync_playwright


def launch(playwright: Playwright) -> Browser:
    """Start the system's Chromium, or the one that Playwright has installed."""
    # The headless shell, which Playwright prefers too, is faster.
    found = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    # Root has no sandbox in Chromium.
    return playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])


if __name__ == "__main__":
    with sync_playwright() as playwright:
        launch(playwright).close()

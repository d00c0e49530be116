"""docs/page.png for the README: `foveate demo` in a real browser, after one question of its gallery.

Playwright is not among the requirements: `make test-browser` sets it up, then
PYTHONPATH=.venv/browser .venv/bin/python benchmarks/page.py
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import sync_playwright

OUT = Path(__file__).parents[1] / "docs" / "page.png"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--no-first-run")


@contextmanager
def demo() -> Iterator[str]:
    """The URL of a page that runs."""
    command = [str(Path(sys.executable).with_name("foveate")), "demo", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield next(word.rstrip(";") for word in line.split() if word.startswith("http://"))
        finally:
            process.terminate()


def main() -> None:
    """Ask one question at keep = 0.1 and take a picture."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--scene", default="Colours and shapes", help="the title of one of the gallery's pictures")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--size", default="1280x800")
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    with demo() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        page = browser.new_page(
            viewport={"width": width, "height": height}, color_scheme="dark" if given.dark else "light",
            reduced_motion="reduce",
        )  # fmt: skip
        for attempt in range(100):
            try:
                page.goto(url)
                break
            except Exception:  # it does not listen yet
                if attempt == 99:
                    raise
                page.wait_for_timeout(100)
        page.wait_for_selector("#overlay:not([hidden])")
        page.get_by_role("button", name=given.scene, exact=True).click()
        page.wait_for_selector(f'#gallery button[title="{given.scene}"][aria-pressed="true"]')
        page.click("#go")
        page.wait_for_selector("#rows tr:first-child td:last-child:not(:empty)")
        page.mouse.move(0, 0)
        page.wait_for_timeout(300)
        page.screenshot(path=given.out, full_page=True)
        browser.close()
    print(f"{given.out}")


if __name__ == "__main__":
    main()

"""Write docs/page.png for docs/index.md: `foveate demo` in a real browser, after one question of its gallery.

Playwright is not a requirement of the project. Run `make test-browser`, which sets it up, then

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

OUT = Path(__file__).parents[1] / "docs" / "page.png"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--no-first-run")


@contextmanager
def run_demo() -> Iterator[str]:
    """Run the demo; its URL."""
    command = [str(Path(sys.executable).with_name("foveate")), "demo", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield next(word.rstrip(";.,") for word in line.split() if word.startswith("http://"))
        finally:
            process.terminate()


def main() -> None:
    """Ask one question at keep = 0.1 and save a screenshot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--scene", default="Colours and shapes", help="the title of an image of the gallery")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--size", default="1280x800")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    width, height = map(int, options.size.split("x"))
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    with run_demo() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme="dark" if options.dark else "light",
            reduced_motion="reduce",
        )
        for attempt in range(100):
            try:
                page.goto(url)
                break
            except Exception:  # the server does not listen yet
                if attempt == 99:
                    raise
                page.wait_for_timeout(100)
        page.wait_for_selector("#overlay:not([hidden])")
        page.get_by_role("button", name=options.scene, exact=True).click()
        page.wait_for_selector(f'#gallery button[title="{options.scene}"][aria-pressed="true"]')
        page.click("#go")
        page.wait_for_selector("#rows tr:first-child td:last-child:not(:empty)")
        page.mouse.move(0, 0)
        page.wait_for_timeout(300)
        page.screenshot(path=options.out, full_page=True)
        browser.close()
    print(options.out)


if __name__ == "__main__":
    main()

"""The page in a real browser, served by a real `foveate demo`. Only `make test-browser` has Playwright."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from served import FOVEATE, PATIENCE, PAUSED, wait_for

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
)  # fmt: skip
WIDE = {"width": 1280, "height": 800}

collect_ignore_glob = [] if importlib.util.find_spec("playwright") else ["test_*.py"]


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import Error, expect, sync_playwright

    expect.set_options(timeout=1000 * PATIENCE)
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        except Error as error:
            reason = f"No Chromium can be started (see tests/browser/setup.sh): {error.message.splitlines()[0]}"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
        yield browser
        browser.close()


class Demo:
    """A `foveate demo` on a free port; while the file `pause` exists every answer stops half-way (see paused.py)."""

    def __init__(self, model: str, log: Path, pause: Path | None = None, options: Sequence[str | Path] = ()) -> None:
        self.pause = pause
        command = [FOVEATE] if pause is None else [sys.executable, PAUSED, pause]
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [*command, "demo", "--model", model, "--port", "0", *options], stdout=out, stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip

        def is_up():
            assert self.process.poll() is None, log.read_text()
            return "startup complete" in log.read_text()

        wait_for(is_up)
        self.url = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())[0]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """With the bundled model, and a policy that always chooses a quarter of the tokens."""
    from foveate.runtime.load import load
    from policies import save_policy

    folder = tmp_path_factory.mktemp("demo")
    demo = Demo("bundled", folder / "log", options=["--policy", save_policy(load("bundled").model, folder)])
    yield demo
    demo.end()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A random model, whose answers are as long as they may be."""
    from tiny import tiny_folder

    return str(tiny_folder("llava", tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def paused(tiny_model, tmp_path):
    """A demo whose answers stop half-way until the file `pause` is removed."""
    (tmp_path / "pause").touch()
    demo = Demo(tiny_model, tmp_path / "log", tmp_path / "pause")
    yield demo
    demo.end()


@pytest.fixture
def opened(browser):
    """Opens the page of a demo in a window of its own; fails for requests to other sites and errors in the console."""
    contexts = []

    @contextmanager
    def watched(demo, *, expect_errors=False, **options):
        context = browser.new_context(**{"viewport": WIDE, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        errors, requests = [], []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(demo.url)
        page.wait_for_selector("#overlay:not([hidden])")
        yield page
        assert not [url for url in requests if not url.startswith((f"{demo.url}/", "data:", "blob:"))]
        assert expect_errors or not errors

    yield watched
    for context in contexts:
        context.close()


@pytest.fixture
def page(opened, demo):
    with opened(demo) as page:
        yield page

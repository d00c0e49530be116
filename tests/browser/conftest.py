"""The page in a real browser, served by a real `foveate demo`. Only `make test-browser` has Playwright."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
)  # fmt: skip
WIDE = {"width": 1280, "height": 800}
SECONDS = 20  # for whatever the page should do

collect_ignore_glob = [] if importlib.util.find_spec("playwright") else ["test_*.py"]


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import Error, expect, sync_playwright

    expect.set_options(timeout=1000 * SECONDS)
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    with sync_playwright() as playwright:
        try:
            found = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        except Error as error:
            reason = f"No Chromium can be started (see tests/browser/setup.sh): {error.message.splitlines()[0]}"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
        yield found
        found.close()


class Demo:
    """A `foveate demo` on a free port."""

    def __init__(self, model: str, log: Path) -> None:
        command = [str(Path(sys.executable).with_name("foveate")), "demo", "--model", model, "--port", "0"]
        with log.open("w") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )
        end = time.monotonic() + 60
        while "startup complete" not in log.read_text():
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        self.url = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())[0]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """With the bundled model."""
    found = Demo("bundled", tmp_path_factory.mktemp("demo") / "log")
    yield found
    found.end()


@pytest.fixture(scope="session")
def slow_folder(tmp_path_factory):
    """A random model that takes seconds for an answer, which is as long as may be."""
    import torch
    import transformers

    from foveate.runtime.load import quiet
    from tiny import tiny_folder

    folder = tiny_folder("llava", tmp_path_factory.mktemp("slow"))
    config = transformers.AutoConfig.from_pretrained(folder)
    config.text_config.num_hidden_layers = 24
    torch.manual_seed(0)
    model = transformers.AutoModelForImageTextToText.from_config(config)
    model.generation_config.do_sample = False
    with quiet():
        model.save_pretrained(folder)
    return folder


@pytest.fixture
def slow(slow_folder, tmp_path):
    found = Demo(str(slow_folder), tmp_path / "log")
    yield found
    found.end()


@pytest.fixture
def opened(browser):
    """Opens the page of a demo in a window of its own, and watches what it asks for and complains of."""
    contexts = []

    @contextmanager
    def watched(demo, *, loses=False, **how):
        context = browser.new_context(**{"viewport": WIDE, **how})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(1000 * SECONDS)
        complaints, asked = [], []
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(demo.url)
        page.wait_for_selector("#overlay:not([hidden])")
        yield page
        elsewhere = [url for url in asked if not url.startswith((f"{demo.url}/", "data:", "blob:"))]
        assert not elsewhere
        assert loses or not complaints

    yield watched
    for context in contexts:
        context.close()


@pytest.fixture
def page(opened, demo):
    with opened(demo) as found:
        yield found

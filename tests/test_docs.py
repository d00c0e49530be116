"""Every snippet of docs/in-your-program.md, docs/auto.md and docs/sessions.md runs, on a bundled model."""

import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "in-your-program.md"
START, *SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
POLICIES, SESSIONS = (
    re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)
    for page in ("auto.md", "sessions.md")
)
SECTIONS = re.findall(r"^## (.*)", PAGE.read_text(), re.MULTILINE)


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the first snippet defines, in a folder that snippets may write to."""
    monkeypatch.chdir(tmp_path)
    defined = {"__name__": "__main__"}
    exec(START, defined)
    return defined


# transformers, PEFT and torch warn of names of each other that are deprecated.
@pytest.mark.filterwarnings("ignore", "error::foveate.errors.FoveateWarning")
@pytest.mark.parametrize("snippet", SNIPPETS, ids=[snippet.splitlines()[0][:40] for snippet in SNIPPETS])
def test_snippet(names, snippet):
    if "quantize=" in snippet:
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: make test-load")
    exec(snippet, names)


def test_the_snippets_on_policies(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    shutil.copy(ROOT / "src/foveate/policy/shipped/bundled-qwen.policy.json", "mine.policy.json")
    names = {"__name__": "__main__"}
    for snippet in POLICIES:
        exec(snippet, names)
    assert "estimated risk" in capsys.readouterr().out


def test_every_surrounding_has_a_section():
    wanted = ("pipeline", "PEFT", "Training", "torch.compile", "decoding loop", "Threads", "Copies", "lmms-eval")
    assert all(any(word in section for section in SECTIONS) for word in wanted)
    assert "quantize=" in PAGE.read_text()
    assert "device_map=" in PAGE.read_text()


def test_the_options_that_the_page_names_exist():
    from foveate.apps.cli.loading import HELP

    options = set(re.findall(r"foveate\.load\([^)]*?(\w+)=", PAGE.read_text()))
    assert options <= set(HELP)


def test_the_snippets_on_sessions(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    names = {"__name__": "__main__"}
    for snippet in SESSIONS:
        exec(snippet, names)
    first, _, third = capsys.readouterr().out.split()[:3]
    assert (first.startswith("red"), third) == (True, "1")

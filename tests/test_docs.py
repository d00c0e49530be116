"""Every snippet of docs/in-your-program.md and of the pages auto, sessions and encode runs, on small models."""

import re
import shutil
from pathlib import Path

import pytest

from foveate.apps.encoder import parse_encoders
from foveate.models import lookup
from foveate.models.tile_encoder import TileEncoder
from tiled import tiled_folder

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "in-your-program.md"
START, *SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
POLICIES, SESSIONS = (
    re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)
    for page in ("auto.md", "sessions.md")
)
TILES = (ROOT / "docs" / "encode.md").read_text()
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


def test_the_snippets_on_tiles(tmp_path, monkeypatch, capsys):
    """No bundled model has tiles: the first snippet loads a random one of the family that it names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    start, *rest = re.findall(r"^```python\n(.*?)^```", TILES, re.MULTILINE | re.DOTALL)
    published, names = '"llava-hf/llava-v1.6-vicuna-7b-hf"', {"__name__": "__main__"}
    assert start.count(published) == 1
    for snippet in (start.replace(published, repr(str(tiled_folder("llava_next", tmp_path / "tiles")))), *rest):
        exec(snippet, names)
    printed = capsys.readouterr().out
    assert printed.count("tokens kept, 2 of 5 parts encoded") == 2
    assert re.search(r"\((True|False), .*\) 0\.4", printed)
    assert (tmp_path / "encoded.png").stat().st_size > 1000


def test_the_page_on_tiles_names_all_families_and_commands():
    table = TILES.partition("| `config.model_type` | |")[2].partition("\n\n")[0]
    listed = re.findall(r"`(\w+)`", table)
    families = [lookup.family(name) for name in lookup.available()]
    assert sorted(listed) == sorted(
        each.model_type for each in families if isinstance(each, TileEncoder) and each.traits.placed
    )
    commands = TILES.partition("```bash")[2].partition("```")[0]
    for command in ("ask", "eval", "bench", "serve", "batch"):
        lines = [line for line in commands.splitlines() if line.startswith(f"foveate {command} ")]
        (share,) = [match[1] for line in lines if (match := re.search(r"--encode (\S+)", line))]
        parse_encoders(share)


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
    lines = capsys.readouterr().out.splitlines()
    first, _, third = " ".join(lines).split()[:3]
    assert (first.startswith("red"), third) == (True, "1")
    assert lines[-2].startswith("(2.0, 3.0) ")
    assert lines[-1].endswith("(2.0, 3.0)")


def test_the_snippet_on_video(capsys):
    (snippet,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "video.md").read_text(), re.MULTILINE | re.DOTALL
    )
    exec(snippet, {"__name__": "__main__"})
    kept, _, total = capsys.readouterr().out.split()
    assert int(total) == 216
    assert int(kept) <= 0.25 * 216

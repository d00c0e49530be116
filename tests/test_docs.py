"""Every Python snippet of the README and of docs/ runs, and every notebook, on small models.

A snippet that imports foveate starts anew; those behind it go on from it. docs/tuning.md is run by tests/tuning.
"""

import json
import re
import shutil
from pathlib import Path

import pytest

from foveate.apps.encoder import parse_encoders
from foveate.apps.serve.app import make_app
from foveate.apps.serve.settings import ServeSettings
from foveate.models import lookup
from foveate.models.tile_encoder import TileEncoder
from served import running_app
from tiled import tiled_folder
from tiny import tiny_folder

ROOT = Path(__file__).parent.parent
ELSEWHERE = ("in-your-program", "serving", "tuning")  # pages with tests of their own
PAGES = {"README": ROOT / "README.md"} | {
    path.stem: path for path in sorted((ROOT / "docs").glob("*.md")) if path.stem not in ELSEWHERE
}
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def find_snippets(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def find_chapters(path: Path) -> list[list[str]]:
    """The snippets of a page, those that need each other together."""
    chapters: list[list[str]] = []
    for snippet in find_snippets(path):
        if re.search(r"^import foveate$", snippet, re.MULTILINE):
            chapters.append([])
        chapters[-1].append(snippet)
    return chapters


WITH_SNIPPETS = [name for name, path in PAGES.items() if find_snippets(path)]


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """Small random models in place of published ones of the same architecture."""
    qwen = tiny_folder("qwen2_5_vl", tmp_path_factory.mktemp("qwen"))
    tiles = tiled_folder("llava_next", tmp_path_factory.mktemp("tiles"))
    return {'"Qwen/Qwen2.5-VL-3B-Instruct"': repr(str(qwen)), '"llava-hf/llava-v1.6-vicuna-7b-hf"': repr(str(tiles))}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that snippets may write to, with the files that they read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    shutil.copy(ROOT / "src/foveate/policy/shipped/bundled-qwen.policy.json", "mine.policy.json")
    return tmp_path


# transformers, PEFT and torch warn of names of each other that are deprecated.
pytestmark = pytest.mark.filterwarnings("ignore", "error::foveate.errors.FoveateWarning")


@pytest.mark.parametrize("page", WITH_SNIPPETS)
def test_snippets(page, published, folder, capsys):
    for chapter in find_chapters(PAGES[page]):
        names = {"__name__": "__main__"}
        for snippet in chapter:
            for name, path in published.items():
                snippet = snippet.replace(name, path)
            exec(snippet, names)
    CHECKS.get(page, lambda printed: None)(capsys.readouterr().out)


def check_start(printed: str) -> None:
    first, second = [line for line in printed.splitlines() if "visual tokens kept" in line][:2]
    assert first == " red foveate: 58 of 576 visual tokens kept"
    kept, _, total = second.rpartition("foveate: ")[2].split()[:3]
    assert int(kept) <= 0.25 * int(total) + 1


def check_tiles(printed: str) -> None:
    assert printed.count("tokens kept, 2 of 5 parts encoded") == 2
    assert re.search(r"\((True|False), .*\) 0\.4", printed)
    assert Path("encoded.png").stat().st_size > 1000


def check_sessions(printed: str) -> None:
    lines = printed.splitlines()
    first, _, third = " ".join(lines).split()[:3]
    assert (first.startswith("red"), third) == (True, "1")
    assert lines[-2].startswith("(2.0, 3.0) ")
    assert lines[-1].endswith("(2.0, 3.0)")


def check_video(printed: str) -> None:
    kept, _, total = printed.split()
    assert int(total) == 216
    assert int(kept) <= 0.25 * 216


def check_budget(printed: str) -> None:
    kept = [int(line.split()[1]) for line in printed.splitlines()]
    assert kept == sorted(kept, reverse=True)
    assert (kept[0], kept[-1]) == (576, 1)


def check_policies(printed: str) -> None:
    assert "estimated risk" in printed


CHECKS = {
    "README": check_start, "index": check_start, "encode": check_tiles, "sessions": check_sessions,
    "video": check_video, "budget": check_budget, "auto": check_policies,
}  # fmt: skip


def test_a_page_without_snippets_is_none_that_had_some():
    assert {*CHECKS, "add-a-method", "glance"} <= {*WITH_SNIPPETS}


# -- docs/in-your-program.md: each snippet goes on from the first one alone -----------------------------------------

PROGRAM = ROOT / "docs" / "in-your-program.md"
START, *SNIPPETS = find_snippets(PROGRAM)
SECTIONS = re.findall(r"^## (.*)", PROGRAM.read_text(), re.MULTILINE)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=[snippet.splitlines()[0][:40] for snippet in SNIPPETS])
def test_snippet_in_a_program(folder, snippet):
    if "quantize=" in snippet:
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: make test-load")
    names = {"__name__": "__main__"}
    exec(START, names)
    exec(snippet, names)


def test_every_surrounding_has_a_section():
    wanted = ("pipeline", "PEFT", "Training", "torch.compile", "decoding loop", "Threads", "Copies", "lmms-eval")
    assert all(any(word in section for section in SECTIONS) for word in wanted)
    assert "quantize=" in PROGRAM.read_text()
    assert "device_map=" in PROGRAM.read_text()


def test_the_options_that_the_page_names_exist():
    from foveate.apps.cli.loading import HELP

    options = set(re.findall(r"foveate\.load\([^)]*?(\w+)=", PROGRAM.read_text()))
    assert options <= set(HELP)


# -- docs/serving.md --------------------------------------------------------------------------------------------------


def test_the_client_of_the_page_on_serving(bundled, folder, capsys):
    page = ROOT / "docs" / "serving.md"
    client, own_settings, *_ = find_snippets(page)
    names = {"__name__": "__main__"}
    with running_app(make_app(bundled, ServeSettings())) as server:
        exec(client.replace("http://127.0.0.1:8000", server.url), names)
        exec(own_settings, names)
    printed = capsys.readouterr().out.splitlines()
    assert printed == [" red 68", "[173] of [576]"]
    assert [line for line in printed if f"prints `{line}`" not in page.read_text()] == []


def test_the_other_snippets_on_serving_are_python():
    """Those start vLLM with a published model."""
    for snippet in find_snippets(ROOT / "docs" / "serving.md"):
        compile(snippet, "docs/serving.md", "exec")


# -- docs/encode.md ---------------------------------------------------------------------------------------------------


def test_the_page_on_tiles_names_all_families_and_commands():
    text = PAGES["encode"].read_text()
    table = text.partition("| `config.model_type` | |")[2].partition("\n\n")[0]
    listed = re.findall(r"`(\w+)`", table)
    families = [lookup.family(name) for name in lookup.available()]
    assert sorted(listed) == sorted(
        each.model_type for each in families if isinstance(each, TileEncoder) and each.traits.placed
    )
    commands = text.partition("```bash")[2].partition("```")[0]
    for command in ("ask", "eval", "bench", "serve", "batch"):
        lines = [line for line in commands.splitlines() if line.startswith(f"foveate {command} ")]
        (share,) = [match[1] for line in lines if (match := re.search(r"--encode (\S+)", line))]
        parse_encoders(share)


# -- notebooks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_notebook(path, folder):
    names = {"__name__": "__main__"}
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
            assert not re.search(r"/(tmp|home|work|Users|usr)\b", json.dumps(cell["outputs"])), "a path of this machine"

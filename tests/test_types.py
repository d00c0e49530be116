"""A type checker accepts the Python of the README and of docs/ as users paste it.

mypy has the project's own settings, so that it starts from the cache which `make check` left.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from test_docs import PAGES, ROOT, find_chapters

pytest.importorskip("mypy", reason="mypy is not installed: pip install 'foveate[dev]'")
USERS = "# mypy: allow-untyped-defs\n"  # functions of a script need no annotations
PAGE = ROOT / "docs" / "in-your-program.md"
PIPELINE = '# mypy: disable-error-code="call-overload,arg-type"\n'  # transformers' pipelines return text to mypy
PROBE = """import foveate

model, _ = foveate.load("bundled")
with foveate.pruning(model, keep=0.1) as handle:
    handle.report.nothing
"""


def test_snippets(tmp_path):
    files = [write(tmp_path, name, chapters) for name, chapters in list_chapters()]
    (tmp_path / "probe.py").write_text(PROBE)
    command = [sys.executable, "-m", "mypy", "src", "training", *map(str, files), str(tmp_path / "probe.py")]
    errors = [
        line for line in subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
        if ": error: " in line
    ]  # fmt: skip
    assert any("probe.py:5:" in line and '"Report" has no attribute "nothing"' in line for line in errors), errors
    assert [line for line in errors if "probe.py" not in line] == []


def list_chapters():
    for name, path in {**PAGES, "in-your-program": PAGE}.items():
        for number, chapter in enumerate(find_chapters(path)):
            yield f"{name}-{number}", (PIPELINE if path == PAGE else "") + "\n".join(chapter)


def write(folder, name, text) -> Path:
    path = folder / f"snippet_{re.sub('[^a-z0-9]', '_', name.lower())}.py"
    path.write_text(USERS + text)
    return path

"""Scripts beside the package, most of which no test runs, import names that exist."""

from __future__ import annotations

import ast
import importlib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = [path for folder in ("benchmarks", "examples", "training", "docs") for path in (ROOT / folder).glob("*.py")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_imports(script):
    for node in ast.walk(ast.parse(script.read_text())):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("foveate"):
            continue
        try:
            module = importlib.import_module(node.module)
        except ModuleNotFoundError as error:
            if error.name.startswith("foveate"):
                raise
            pytest.skip(f"{error.name} is not installed here")
        for name in node.names:
            # As `from a import b` does: a module of a package is an attribute only once something has imported it.
            is_module = hasattr(module, "__path__") and find_spec(f"{node.module}.{name.name}") is not None
            assert is_module or hasattr(module, name.name), f"{node.module} has no {name.name}"

"""The package declares what it imports, ships what it reads, and says which versions it is tested with."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from foveate.models import versions
from foveate.models.base import Family

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "src" / "foveate"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DISTRIBUTIONS = {
    "PIL": "pillow",
    "lmms_eval": "lmms-eval",
    "prometheus_client": "prometheus-client",
    "typing_extensions": "typing-extensions",
}
"""Distributions that are named otherwise than what is imported."""
EXTRAS = {
    "apps/batch": ("batch", "vllm"),
    "apps/bench": ("eval", "vllm"),
    "apps/demo": ("serve",),
    "apps/evaluate": ("eval",),
    "apps/results.py": ("eval",),
    "apps/serve": ("serve",),
    "integrations/lmms": ("lmms",),
    "integrations/vllm": ("vllm",),
}
"""Extras that the modules below a path may use."""
WITH_TORCH = {"triton": "method/selection/kernel.py"}
"""Packages that come with some builds of torch, and the one module that uses them where they are installed."""


def requirements(names) -> dict[str, Requirement]:
    return {canonicalize_name(r.name): r for r in map(Requirement, names)}


DEPENDENCIES = requirements(PROJECT["project"]["dependencies"])
OPTIONAL = {name: requirements(r) for name, r in PROJECT["project"]["optional-dependencies"].items()}
ALL = {n: r for n, r in (DEPENDENCIES | OPTIONAL["serve"] | OPTIONAL["dev"]).items() if n != "foveate"}


def imported(path: Path) -> set[str]:
    """The distributions outside the standard library that a module imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return {DISTRIBUTIONS.get(name, name) for name in names - set(sys.stdlib_module_names) - {"foveate"}}


def test_all_that_is_imported_is_declared():
    for path in SOURCES.rglob("*.py"):
        own = path.relative_to(SOURCES).as_posix()
        extras = [name for place, names in EXTRAS.items() if own.startswith(place) for name in names]
        declared = set(DEPENDENCIES).union(*(OPTIONAL[name] for name in extras))
        declared |= {name for name, module in WITH_TORCH.items() if module == own}
        assert imported(path) <= declared, own


def test_all_that_is_declared_is_imported():
    used = set().union(*(imported(path) for path in SOURCES.rglob("*.py")))
    assert set(DEPENDENCIES) <= used


def test_files_that_are_no_modules_are_in_the_wheel():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["foveate"]
    tracked = subprocess.run(["git", "ls-files", "."], cwd=SOURCES, capture_output=True, text=True, check=True).stdout
    data = [name for name in tracked.splitlines() if not name.endswith(".py")]
    assert {"py.typed", "apps/demo/static/index.html", "world/models/llava/model.safetensors"} <= set(data)
    for name in data:
        assert any(fnmatch(name, pattern) for pattern in patterns), name
    assert PROJECT["tool"]["setuptools"]["packages"]["find"]["where"] == ["src"], "without training and tests"
    assert [path.name for path in (ROOT / "src").iterdir() if not path.name.endswith(".egg-info")] == ["foveate"]


def test_the_wheel_answers_outside_of_the_source_tree(tmp_path):
    """Built from what it is built of alone, installed beside its dependencies, and run as the console script."""
    source, target, elsewhere = (tmp_path / name for name in ("source", "target", "elsewhere"))
    elsewhere.mkdir()
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", source / "src", ignore=unwanted)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    shutil.copy(ROOT / "examples" / "scene.png", elsewhere)
    for arguments in (
        ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source],
        ["install", "--no-deps", "--no-index", "--target", target, "--find-links", tmp_path, "foveate"],
    ):
        subprocess.run([*pip, *map(str, arguments)], check=True, capture_output=True, text=True)
    beside = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [str(target), *(path for path in beside if path and not (Path(path) / "foveate").exists())]
    run = {"cwd": elsewhere, "env": {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, "text": True}
    where = subprocess.check_output([sys.executable, "-c", "import foveate; print(foveate.__file__)"], **run)
    assert Path(where.strip()).is_relative_to(target)
    ask = [sys.executable, target / "bin" / "foveate", "ask", "scene.png", "what color is the star?", "--json"]
    answer = json.loads(subprocess.check_output([*ask, "--repeat", "1"], **run).splitlines()[-1])
    assert (answer["answer"], answer["answer_unpruned"], answer["kept"]) == ("red", "red", 58)


def test_the_ends_of_the_range_of_transformers_are_what_is_tested():
    oldest = re.search(r"transformers==(\S+)", (ROOT / "Makefile").read_text())[1]
    newest = re.search(r"^transformers==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert DEPENDENCIES["transformers"].specifier == Requirement(f"transformers{Family.traits.versions}").specifier
    assert oldest == f"{Family.traits.versions.removeprefix('>=')}.0"
    assert newest.rpartition(".")[0] == versions.NEWEST_TESTED


@pytest.mark.parametrize("requirement", ALL.values(), ids=ALL)
def test_every_dependency_of_the_tests_is_in_the_constraints(requirement):
    pins = requirements(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] not in "#")
    (pin,) = pins[canonicalize_name(requirement.name)].specifier
    assert requirement.specifier.contains(pin.version)

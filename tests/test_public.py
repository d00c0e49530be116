"""The namespace is what `__all__` says, importing it is cheap, and the documents are true."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import foveate
from foveate.method.registry import BUILTIN as METHODS
from foveate.models.registry import BUILTIN as FAMILIES
from scripts import load_script

ROOT = Path(__file__).parent.parent


def test_all_is_the_namespace():
    helpers = {"import_module", "TYPE_CHECKING"}
    public = {n for n in dir(foveate) if not n.startswith("_") and not inspect.ismodule(getattr(foveate, n))}
    assert sorted(public - helpers) == foveate.__all__ == sorted(foveate.__all__)
    with pytest.raises(AttributeError, match="prune_input"):
        _ = foveate.prune_input


def test_old_names_work_and_warn():
    from foveate.integrations import vllm

    with pytest.warns(DeprecationWarning, match=r"foveate\.vllm is now foveate\.integrations\.vllm"):
        assert foveate.vllm is vllm
    with pytest.warns(DeprecationWarning, match=r"foveate\.vllm is now foveate\.integrations\.vllm"):
        from foveate.vllm import overrides
    assert overrides is vllm.overrides
    with pytest.raises(AttributeError, match="vlm"):
        _ = foveate.vlm


def test_type_checkers_see_the_names_where_they_are():
    """The lazy table and the imports for type checkers agree."""
    text = (ROOT / "src/foveate/__init__.py").read_text()
    blocks = re.findall(r"^    from (\S+) import (\([^)]*\)|.+)$", text, re.MULTILINE)
    names = {name: home for home, block in blocks for name, _ in re.findall(r"(\w+) as (\1)\b", block)}
    assert names == foveate._HOMES


def modules_after(code: str) -> set[str]:
    """The modules that a fresh Python has imported after these lines."""
    code += "; import sys; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_import_is_cheap():
    """Beside what torch imports: the core without a method, a family of models, an app or a file format."""
    new = modules_after("import torch, foveate; foveate.prune_inputs; foveate.attach") - modules_after("import torch")
    others = {name.partition(".")[0] for name in new} - set(sys.stdlib_module_names)
    assert others - {"numpy", "packaging"} == {"foveate"}
    assert "foveate.pipeline.prune" in new
    rooms = {name.split(".")[1] for name in new if "." in name and name.startswith("foveate.")}
    assert rooms <= {"errors", "registry", "method", "models", "pipeline", "policy", "hooks"}
    lazy = {place.partition(":")[0] for place in (*METHODS.values(), *FAMILIES.values())} - {"foveate.models.base"}
    assert not new & lazy


def test_importing_the_package_alone_does_not_even_import_torch():
    new = modules_after("import foveate") - modules_after("pass")
    assert {name.partition(".")[0] for name in new} - set(sys.stdlib_module_names) == {"foveate"}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"])
def test_document_speaks_of_files_that_are_there(name):
    text = (ROOT / name).read_text()
    for path in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / path).exists(), path


def test_the_options_that_security_names_exist():
    from typer.main import get_command

    from foveate.apps.cli import app

    options = {name for param in get_command(app).commands["serve"].params for name in param.opts}
    assert {*re.findall(r"`(--[a-z-]+)`", (ROOT / "SECURITY.md").read_text())} <= options


@pytest.mark.parametrize("model", ["bundled", "bundled-qwen"])
def test_the_results_show_the_figures_that_were_measured(model):
    results, text = ROOT / "benchmarks" / "results" / model, (ROOT / "docs" / "results.md").read_text()
    accuracy = (results / "table.md").read_text().split("Accuracy:\n\n")[1].split("\n\n")[0]
    assert accuracy in text
    command, settings = (ROOT / "Makefile").read_text(), json.loads((results / "summary.json").read_text())["settings"]
    assert all(f"--{name} {settings[name]}" in command for name in ("split", "limit", "keep", "batch"))
    assert all(method in command for method in settings["methods"].split(","))


def test_the_readme_has_the_figures_that_were_measured():
    text = (ROOT / "README.md").read_text()
    kept = []
    for model in ("bundled", "bundled-qwen"):
        record = json.loads((ROOT / "benchmarks" / "results" / model / "summary.json").read_text())
        (arm,) = [arm for arm in record["arms"] if (arm["name"], arm["keep"]) == ("foveate", 0.111)]
        kept.append(f"{100 * arm['relative']['value']:.1f}")
    assert f"kept {kept[0]} and {kept[1]} % of the accuracy" in text


def test_one_version():
    for name in ("pyproject.toml", "CITATION.cff", "CHANGELOG.md"):
        assert re.search(rf"\b{re.escape(foveate.__version__)}\b", (ROOT / name).read_text()), name


def test_every_method_is_on_its_page():
    text = (ROOT / "docs" / "methods.md").read_text()
    for row in foveate.methods():
        assert f"`{row.name}`" in text


def test_the_pages_show_the_families_and_the_figures_that_there_are():
    """`python benchmarks/readme.py` writes the tables anew."""
    readme = load_script("benchmarks/readme.py")
    pages = {path.stem: path.read_text() for path in (ROOT / "docs").glob("*.md")}
    supported = sum(row.status == "supported" for row in foveate.families())
    assert readme.make_family_table() in pages["models"]
    assert f"({supported} families)" in pages["models"]
    assert supported >= 60
    assert f"{supported} families" in (ROOT / "README.md").read_text()
    assert readme.make_speed_table() in pages["speed"]
    assert readme.make_selection_table() in pages["speed"]
    assert readme.make_choice_table() in pages["budget"]
    assert readme.make_serving_table() in pages["serving"]
    assert readme.make_questions_table() in pages["serving"]
    for model in ("bundled", "bundled-qwen"):
        record = json.loads((ROOT / "benchmarks" / "results" / model / "summary.json").read_text())
        assert readme.make_tasks_table(record) in pages["methods"]

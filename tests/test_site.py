"""The pages say what is there: links, commands, messages, names; and the site that is made of them."""

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

import foveate
from foveate.apps.cli import app
from scripts import load_script

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *sorted(DOCS.glob("*.md"))]
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def name_anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)", FENCE.sub("", path.read_text()), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.strip()).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_hold_in_the_repository(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if not re.match(r"\w+:", target):
            path, _, anchor = target.partition("#")
            found = page.parent / path if path else page
            assert found.exists(), target
            assert not anchor or anchor in name_anchors(found), target


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_commands_have_the_options_that_are_named(page):
    program = get_command(app)
    for line in find_commands(page.read_text()):
        name, *arguments = shlex.split(line, comments=True)[1:]
        command = program.commands[name]
        settings = command.context_settings if "vllm" in arguments else {}  # vLLM takes options of its own
        command.make_parser(command.context_class(command, info_name=name, **settings)).parse_args(arguments)


def find_commands(text: str) -> list[str]:
    """The lines of its fences that start a command of ours."""
    lines = [line.rstrip("&").strip() for block in FENCE.findall(text) for line in block.splitlines()]
    lines = [part.strip() for line in lines for part in line.split("&&")]
    return [line for line in lines if re.match(r"foveate [a-z]", line)]


def test_the_readme_is_short_and_says_what_continuous_integration_runs():
    text = (ROOT / "README.md").read_text()
    assert len(text.encode()) <= 8 * 1024
    assert "no public checkpoint and no GPU yet" in text[:1000]
    assert "`make test`" in text
    assert "make demo" in text


def test_every_public_name_is_in_the_reference():
    listed = re.findall(r"^::: foveate\.(\w+)$", (DOCS / "api.md").read_text(), re.MULTILINE)
    assert sorted(listed) == foveate.__all__


def test_every_method_has_a_section_and_a_figure():
    text = (DOCS / "methods.md").read_text()
    for row in foveate.methods():
        section = text.partition(f"\n### {row.name}\n")[2].partition("\n### ")[0]
        assert "**When it fails**" in section, row.name
        if "cross_attention" in row.needs or row.prunes == "decoding":  # no bundled model has it, nothing is dropped
            continue
        assert f'src="methods/{row.name}.jpg"' in section
        assert (DOCS / "methods" / f"{row.name}.jpg").exists()


def test_the_messages_that_are_explained_exist():
    sources = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    sources = re.sub(r'"\s*\n\s*f?"', "", sources)  # texts that go on in the next line
    section = (DOCS / "faq.md").read_text().partition("## Messages")[2].partition("## In a server")[0]
    messages = re.findall(r"^### (.*)", section, re.MULTILINE)
    assert len(messages) > 20
    for message in messages:
        parts = [re.escape(part.strip()) for part in message.split("...")]
        assert re.search(".{0,80}?".join(parts), sources), message


def test_commands_are_all_in_the_table():
    text = (DOCS / "commands.md").read_text()
    for name in get_command(app).commands:
        assert f"`foveate {name}`" in text


# -- docs/hooks.py ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/x.js"></script>',
        "<img src=//cdn.example/x.png>",
        '<link rel="stylesheet" href="https://fonts.example/css">',
        "<link href=http://fonts.example rel=preconnect>",
        "@import url(https://fonts.example/css);",
        "src: url('//fonts.example/x.woff2')",
    ],
)
def test_what_loads_from_elsewhere_is_seen(html):
    assert load_script("docs/hooks.py").find_loads(f"<p>\n{html}\n</p>")


def test_what_loads_from_the_site_and_links_are_allowed():
    html = (
        '<script src="assets/x.js"></script><a href="https://example.org">x</a><link rel="canonical" href="https://x">'
    )
    assert not load_script("docs/hooks.py").find_loads(html)


@pytest.mark.parametrize(
    ("page", "link", "place"),
    [
        ("docs/results.md", "../benchmarks/LOG.md#x", "repository/benchmarks/LOG.md#x"),
        ("docs/results.md", "../benchmarks/encoder.py", "repository/benchmarks/encoder.py.md"),
        ("docs/results.md", "../benchmarks/results/speed", "repository/benchmarks/results/speed/index.md"),
        ("docs/results.md", "auto.md", "auto.md"),
        ("docs/results.md", "../SECURITY.md", "security.md"),
        ("docs/results.md", "https://x/y.md", "https://x/y.md"),
        ("docs/index.md", "notebooks/first_steps.ipynb", "notebooks/first_steps.md"),
        ("docs/notebooks/first_steps.ipynb", "your_own_data.ipynb", "your_own_data.md"),
        ("SECURITY.md", "docs/serving.md", "serving.md"),
        ("benchmarks/LOG.md", "../docs/glance.md", "../../glance.md"),
    ],
)
def test_links_are_rewritten_for_the_site(page, link, place):
    assert load_script("docs/hooks.py").rewrite_links(page, f"see [a]({link}).") == f"see [a]({place})."


def test_a_notebook_becomes_a_page():
    hooks, path = load_script("docs/hooks.py"), "docs/notebooks/first_steps.ipynb"
    text = hooks.read_page(path)
    for cell in json.loads((ROOT / path).read_text())["cells"]:
        assert "".join(cell["source"]) in text
    assert text.startswith("# First steps")
    assert "```text\nkex\nfoveate: 58 of 576 visual tokens kept\n```" in text
    assert text.count('src="data:image/jpeg;base64,') == 3

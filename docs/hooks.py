"""What mkdocs needs beside the pages of docs/: the files of the repository that they link to, and the notebooks.

Links are written for the repository (`../benchmarks/LOG.md`). Here each such file becomes a part of the site, so that
the same link works in both places and without a network.
"""

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PLACES = {"SECURITY.md": "security.md"}  # files of the repository that are pages of the site's own
NO_SEARCH = "---\nsearch: {exclude: true}\n---\n"  # at the top of a page, for mkdocs
LINK = re.compile(r"(\]\()([^)#\s:]+)(?=[)#])")
MARK = re.compile(r"^(<!-- .* -->)$", re.MULTILINE)
AWAY = r"""["']?(?:https?:)?//"""
LOADS = re.compile(
    rf"<(?:script|img|iframe|source)\b[^>]*\bsrc={AWAY}|@import\s+{AWAY}|url\({AWAY}"
    rf"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect|icon))[^>]*href={AWAY}"
)


def place(path: str) -> str:
    """Where a file or folder of the repository is in the site, for mkdocs: `docs/` is its root."""
    if path.startswith("docs/"):
        path = path.removeprefix("docs/")
        return path.removesuffix(".ipynb") + ".md" if path.endswith(".ipynb") else path
    page = {".md": path, ".py": f"{path}.md"}.get(Path(path).suffix, path)
    return PLACES.get(path, f"repository/{page}" + ("/index.md" if (ROOT / path).is_dir() else ""))


def read_page(path: str) -> str | None:
    """The Markdown of a file or folder of the repository; none if it is a file that no page is made of."""
    source = ROOT / path
    if source.is_dir():
        names = sorted(each.name for each in source.iterdir() if not each.name.startswith((".", "_")))
        return "\n".join([f"{NO_SEARCH}# {path}", "", *(f"- [{name}]({name})" for name in names)])
    if path.endswith(".md"):
        return source.read_text()
    if path.endswith(".ipynb"):
        return "\n\n".join(write_cells(json.loads(source.read_text())["cells"]))
    return f"{NO_SEARCH}# {path}\n\n``````python\n{source.read_text()}\n``````\n" if path.endswith(".py") else None


def write_cells(cells: list[dict[str, Any]]) -> Iterator[str]:
    """The cells of a notebook as Markdown: code and what it printed in fences, images in place."""
    for cell in cells:
        text = "".join(cell["source"])
        yield f"```python\n{text}\n```" if cell["cell_type"] == "code" else text
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/jpeg" in data:
                name, jpeg = data["text/plain"][0].strip("<>"), data["image/jpeg"]
                yield f'<img alt="{name}" src="data:image/jpeg;base64,{jpeg}">'
            else:
                yield "```text\n" + "".join(output.get("text") or data["text/plain"]).rstrip() + "\n```"


def find_targets(path: str, text: str) -> Iterator[str]:
    """The files and folders of the repository that a page links to."""
    folder = path if (ROOT / path).is_dir() else posixpath.dirname(path)
    for _, target in LINK.findall(text):
        found = posixpath.normpath(posixpath.join(folder, target))
        if (ROOT / found).exists():
            yield found


def rewrite_links(path: str, text: str) -> str:
    """The page with links that hold in the site; a link to nothing stays, for mkdocs to report."""
    folder = path if (ROOT / path).is_dir() else posixpath.dirname(path)
    here = posixpath.dirname(place(path))

    def rewrite(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[2]))
        found = (ROOT / target).exists()
        return match[1] + (posixpath.relpath(place(target), here or ".") if found else match[2])

    return LINK.sub(rewrite, text)


def find_loads(text: str) -> list[str]:
    """What a file of the site would load from elsewhere: scripts, styles, images, fonts."""
    return [match[0] for match in LOADS.finditer(text)]


# -- what mkdocs calls ---------------------------------------------------------------------------------------------


def on_files(files: Any, config: Any) -> Any:
    """Add what the pages link to, and what that links to."""
    from mkdocs.structure.files import File

    known = {f"docs/{file.src_uri}" for file in files}
    waiting = [path for path in known if path.endswith((".md", ".ipynb"))] + list(PLACES)
    added: set[str] = set()
    while waiting:
        path = waiting.pop()
        text = read_page(path)
        uri = place(path)
        if uri not in added and f"docs/{uri}" not in known:
            added.add(uri)
            own = {"abs_src_path": str(ROOT / path)} if text is None else {"content": rewrite_links(path, text)}
            files.append(File.generated(config, uri, **own))
        if text is not None:
            waiting += [each for each in find_targets(path, text) if each not in known and place(each) not in added]
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make links hold, and set the marks of generated tables apart: Markdown would take the table for HTML."""
    if page.file.generated_by is None:
        markdown = rewrite_links(f"docs/{page.file.src_uri}", markdown)
    return MARK.sub(r"\n\1\n", markdown)


def on_post_build(config: Any) -> None:
    """Refuse a site that would load something from elsewhere: it must read without a network."""
    from mkdocs.exceptions import PluginError

    for path in sorted(Path(config.site_dir).rglob("*")):
        if path.suffix in {".html", ".css"} and (found := find_loads(path.read_text())):
            raise PluginError(f"{path} loads from elsewhere: {found[0]}")

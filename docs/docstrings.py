"""The examples of docstrings as code, for the reference: they are Python under `Example:`, without a fence."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^Example:\n((?: {4}.*\n?|\n)+)", re.MULTILINE)


class FencedExamples(griffe.Extension):
    """Puts a fence around the code of every `Example:`."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute as it is loaded."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(fence, obj.docstring.value)


def fence(match: re.Match[str]) -> str:
    """The section with its lines in a fence."""
    code = "\n".join(line.removeprefix("    ") for line in match[1].rstrip().splitlines())
    lines = ["```python", *code.splitlines(), "```"]
    return "Example:\n" + "\n".join(f"    {line}".rstrip() for line in lines) + "\n\n"

"""Run the notebooks of docs/notebooks, and write into them what their cells print and show, images in small.

python benchmarks/notebooks.py
"""

import argparse
import ast
import base64
import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from PIL import Image

FOLDER = Path(__file__).parent.parent / "docs" / "notebooks"
SIDE = 384  # pixels of an image, at most


def run_cell(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Run the code of a cell; returns its outputs in the notebook's format: what it printed, and its last value."""
    body = ast.parse(source).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with redirect_stdout(printed):
        exec(compile(ast.Module(body, []), "cell", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        lines = printed.getvalue().splitlines(keepends=True)
        outputs.append({"name": "stdout", "output_type": "stream", "text": lines})
    if value is not None:
        data = show_image(value) if isinstance(value, Image.Image) else {"text/plain": [repr(value)]}
        outputs.append({"data": data, "execution_count": number, "metadata": {}, "output_type": "execute_result"})
    return outputs


def show_image(image: Image.Image) -> dict[str, Any]:
    """The image as a small JPEG."""
    small, file = image.convert("RGB"), io.BytesIO()
    small.thumbnail((SIDE, SIDE))
    small.save(file, "JPEG", quality=82)
    text = [f"<an image of {image.width} x {image.height} pixels>"]
    return {"image/jpeg": base64.b64encode(file.getvalue()).decode(), "text/plain": text}


def main() -> None:
    """Rewrite the notebooks in place."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    for path in sorted(FOLDER.glob("*.ipynb")):
        book, names = json.loads(path.read_text()), {"__name__": "__main__"}
        code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
        for number, cell in enumerate(code, start=1):
            cell["outputs"] = run_cell("".join(cell["source"]), names, number)
            cell["execution_count"] = number
        path.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

"""Put the generated tables into the README, each between its two marks: what was measured, and the families."""

import re
from pathlib import Path

import foveate

ROOT = Path(__file__).parent.parent


def families() -> str:
    """Every image-text-to-text model of the installed transformers, the supported ones first."""
    rows = foveate.families()
    lines = ["| `config.model_type` | prunes | transformers | what |", "|---|---|---|---|"]
    lines += [
        f"| `{row.model_type}` | {', '.join(row.modalities)} | {row.versions} | {row.note} |"
        for row in rows if row.status == "supported"
    ]  # fmt: skip
    lines += ["", "Not supported:", "", "| `config.model_type` | status | why |", "|---|---|---|"]
    lines += [f"| `{row.model_type}` | {row.status} | {row.note} |" for row in rows if row.status != "supported"]
    return "\n".join(lines)


def put(text: str, name: str, block: str) -> str:
    """`text` with `block` between the marks of this name, where it has them."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    return re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n{block}\n{end}", text, flags=re.DOTALL)


def main() -> None:
    """Rewrite README.md in place."""
    path = ROOT / "README.md"
    text = put(path.read_text(), "families", families())
    for results in sorted((ROOT / "benchmarks" / "results").glob("*/table.md")):
        text = put(text, results.parent.name, results.read_text().split("Accuracy:\n\n")[1].split("\n\n")[0])
    path.write_text(text)


if __name__ == "__main__":
    main()

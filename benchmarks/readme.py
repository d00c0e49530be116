"""Put the measured tables of benchmarks/results into the README, each between its two marks."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Rewrite README.md in place."""
    path = ROOT / "README.md"
    text = path.read_text()
    for results in sorted((ROOT / "benchmarks" / "results").glob("*/table.md")):
        name = results.parent.name
        accuracy = results.read_text().split("Accuracy:\n\n")[1].split("\n\n")[0]
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        if begin in text:
            block = f"{begin}\n{accuracy}\n{end}"
            text = re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _, b=block: b, text, flags=re.DOTALL)
    path.write_text(text)


if __name__ == "__main__":
    main()

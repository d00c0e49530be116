"""Draw docs/methods/: what every method keeps of the example image, for one question, on the bundled model.

python benchmarks/method_figures.py
"""

import argparse
import warnings
from pathlib import Path

import foveate
from foveate.models import family_of
from foveate.pipeline.encode import list_methods
from foveate.runtime.conversation import generate_answers, make_inputs
from foveate.runtime.files import open_image

ROOT = Path(__file__).parent.parent
QUESTION = "what color is the star?"
KEEP, SIDE = 0.1, 288


def main() -> None:
    """Write a small image for each method."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    folder = ROOT / "docs" / "methods"
    folder.mkdir(exist_ok=True)
    loaded = foveate.load("bundled")
    image = open_image(ROOT / "examples" / "scene.png")
    inputs = make_inputs(loaded, [image], [QUESTION])
    warnings.simplefilter("ignore", foveate.FoveateWarning)  # of methods for videos
    inside = [row for row in foveate.methods() if row.prunes == "decoder"]
    for row in [*list_methods(loaded.model, family_of(loaded.model)), *inside]:
        with foveate.pruning(loaded.model, keep=KEEP, method=row.name) as handle:
            answer = generate_answers(loaded, inputs, 8)[0]
        options = {"processor": loaded.processor, "step": "kept", "legend": False, "original": False}
        drawn = foveate.draw(image, handle.report, **options)
        drawn.resize((SIDE, SIDE)).save(folder / f"{row.name}.jpg", quality=82, optimize=True)
        print(f"{row.name}: {handle.report.kept_count} tokens, {answer!r}")


if __name__ == "__main__":
    main()

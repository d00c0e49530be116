#!/usr/bin/env bash
# Pillow shrinks a palette image by nearest neighbour although LANCZOS is asked for.
#
# Package: Pillow 13.0.0 (Python 3.11)
# Guess: The resampling filter that resize() and thumbnail() get is used, or a mode it does not suit raises an
#   error.
# Instead: For an image of mode "P" the filter is dropped without a word and single pixels are picked. Thin
#   black lines vanish or stay by luck, where the same image in RGB gives an even grey.
# Why it matters: Screenshots, charts and scanned pages are often 8-bit PNG or GIF files. Shrunk before
#   convert("RGB") instead of after it, their text and grid lines are gone before a model sees them.
# Seen: lines on a third of the page: mean grey 170 from RGB, 255 from the palette image
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet pillow==13.0.0
cd "$dir"
HF_HUB_OFFLINE=1 HF_HOME="$dir" TRANSFORMERS_VERBOSITY=error venv/bin/python -W ignore - 2>errors <<'PY' || { cat errors >&2; exit 1; }
import sys
from PIL import Image

page = Image.new("RGB", (300, 300), "white")
for column in range(0, 300, 3):
    page.paste((0, 0, 0), (column, 0, column + 1, 300))
palette = page.quantize(16)
if palette.convert("RGB").tobytes() != page.tobytes():
    sys.exit("Changed: the palette image is not the same image.")
small = [image.resize((100, 100), Image.Resampling.LANCZOS).convert("L") for image in (page, palette)]
means = [sum(image.tobytes()) / 10000 for image in small]
if means[1] not in (0, 255) or not 160 < means[0] < 180:
    sys.exit(f"Changed: mean grey of the shrunk RGB and palette image is {means}.")
print(f"lines on a third of the page: mean grey {means[0]:.0f} from RGB, {means[1]:.0f} from the palette image")
PY

#!/usr/bin/env bash
# A Dataset.map that hands an image through unchanged compresses it again, at a lower JPEG quality.
#
# Package: datasets 5.2.0 with Pillow 13.0.0 (Python 3.11)
# Guess: A function that returns its row with one more column leaves the image's bytes as they were, as map does
#   where the function returns the new column alone.
# Instead: A returned image is encoded again as JPEG with Pillow's standard quality of 75. Small text gets a
#   visible error, the data shrink several times, and nothing is said.
# Why it matters: `return {**row, "prompt": ...}` is the usual way to write a preparation step. A document
#   benchmark is blurred by it while an otherwise equal script is exact, so OCR scores of the two differ.
# Seen: new column alone: 161213 of 161213 bytes, exact; whole row returned: 27209 bytes, largest pixel error
#   131 of 255
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet datasets==5.2.0 pillow==13.0.0 numpy==2.4.6
cd "$dir"
HF_HUB_OFFLINE=1 HF_HOME="$dir" TRANSFORMERS_VERBOSITY=error venv/bin/python -W ignore - 2>errors <<'PY' || { cat errors >&2; exit 1; }
import io
import sys
import datasets
import numpy as np
from PIL import Image, ImageDraw

datasets.disable_progress_bars()
page = Image.new("RGB", (320, 200), "white")
for line in range(20):
    ImageDraw.Draw(page).text((4, 10 * line), "Invoice 4711, total 1,389.50 EUR, due 2031-02-17", fill=(200, 0, 0))
file = io.BytesIO()
page.save(file, "JPEG", quality=100, subsampling=0)
features = datasets.Features(image=datasets.Image())
source = datasets.Dataset.from_dict({"image": [{"bytes": file.getvalue(), "path": None}]}, features=features)


def read(data):
    size = len(data.cast_column("image", datasets.Image(decode=False))[0]["image"]["bytes"])
    return np.asarray(data[0]["image"]).astype(int), size


pixels, size = read(source)
alone, size_alone = read(source.map(lambda row: {"prompt": "Total?"}))
whole, size_whole = read(source.map(lambda row: {**row, "prompt": "Total?"}))
if size_alone != size or (alone != pixels).any():
    sys.exit("Changed: a map that returns one new column alters the image as well.")
if size_whole == size or (whole == pixels).all():
    sys.exit("Changed: an image handed through by map keeps its bytes now.")
print(
    f"new column alone: {size_alone} of {size} bytes, exact; whole row returned: {size_whole} bytes, "
    f"largest pixel error {abs(whole - pixels).max()} of 255"
)
PY

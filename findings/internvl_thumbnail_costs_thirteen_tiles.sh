#!/usr/bin/env bash
# InternVL's and Aya Vision's image processor cuts a thumbnail into 13 tiles and an image of 900 x 900 pixels into 5.
#
# Package: transformers 5.24.0, pillow 13.0.0 (with torch 2.13.0, Python 3.11)
# Guess: crop_to_patches cuts a large image into tiles of 448 pixels. An image that fits into one tile is one tile,
#   and no smaller image has more tiles than a larger one.
# Instead: The grid is chosen by the aspect ratio alone; the number of pixels decides only between grids of the
#   same ratio. 80 x 60 pixels are 4 : 3, so they are enlarged to 1792 x 1344 and cut into 12 tiles beside the overview.
#   900 x 900 pixels have 4 tiles beside theirs.
# Why it matters: At 256 visual tokens a tile an icon costs 3,328 tokens of prefill and KV cache and shows nothing
#   that one tile would not. max_patches=1 in the call makes it one tile.
# Seen:
#   80 x 60: 13 tiles, 448 x 448: 1, 900 x 900: 5; 80 x 60 with max_patches=1: 1.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet torch==2.13.0
"$dir/venv/bin/pip" install --quiet transformers==5.24.0 pillow==13.0.0
cd "$dir"
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error venv/bin/python -W ignore - <<'PY'
import sys
from PIL import Image
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

processor = GotOcr2ImageProcessorPil(
    crop_to_patches=True, min_patches=1, max_patches=12, size={"height": 448, "width": 448}
)


def count_tiles(width, height, **options):
    batch = processor(images=[Image.new("RGB", (width, height), "red")], return_tensors="np", **options)
    return len(batch["pixel_values"])


counts = [count_tiles(80, 60), count_tiles(448, 448), count_tiles(900, 900), count_tiles(80, 60, max_patches=1)]
if counts != [13, 1, 5, 1]:
    sys.exit(f"Changed: {counts} tiles.")
print("80 x 60: {} tiles, 448 x 448: {}, 900 x 900: {}; 80 x 60 with max_patches=1: {}.".format(*counts))
PY

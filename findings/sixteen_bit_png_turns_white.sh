#!/usr/bin/env bash
# A 16-bit grayscale PNG reaches the model as a nearly white image.
#
# Package: transformers 5.24.0, pillow 13.0.0 (with torch 2.13.0, Python 3.11)
# Guess: The processor converts to RGB, so 16-bit gray is scaled to 8 bits: the image looks as in any viewer.
# Instead: The conversion clips: each value above 255 of 65535 becomes 255. All but the darkest 0.4 % of the
#   range is pure white, for CLIP's, Qwen2-VL's and Pixtral's processors alike, and nothing warns.
# Why it matters: X-rays, depth maps and scans are stored so. The model answers fluently about a blank page.
# Seen:
#   Share of a 16-bit ramp that is pure white (CLIP, Qwen2-VL, Pixtral): [0.996, 0.996, 0.996]
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet torch==2.13.0
"$dir/venv/bin/pip" install --quiet transformers==5.24.0 pillow==13.0.0
cd "$dir"
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error venv/bin/python -W ignore - <<'PY'
import sys
import numpy as np
from PIL import Image
from transformers import CLIPImageProcessorPil, PixtralImageProcessorPil, Qwen2VLImageProcessorPil

ramp = np.tile(np.arange(256), (256, 1))
Image.fromarray(ramp.astype(np.uint8)).save("8.png")
Image.fromarray((ramp * 257).astype(np.uint16)).save("16.png")
shares = []
for processor in (CLIPImageProcessorPil(), Qwen2VLImageProcessorPil(), PixtralImageProcessorPil()):
    eight, sixteen = (processor(Image.open(f"{bits}.png"), return_tensors="pt")["pixel_values"] for bits in (8, 16))
    if eight.shape == sixteen.shape and (eight - sixteen).abs().max() < 0.1:
        sys.exit(f"Changed: {type(processor).__name__} gives the same pixels for 8 and 16 bits.")
    white = processor(Image.new("RGB", (256, 256), "white"), return_tensors="pt")["pixel_values"]
    shares.append(float(((sixteen - white).abs() < 0.02).float().mean()))
print("Share of a 16-bit ramp that is pure white (CLIP, Qwen2-VL, Pixtral):", [round(share, 3) for share in shares])
PY

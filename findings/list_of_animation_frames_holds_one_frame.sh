#!/usr/bin/env bash
# The list of an animation's frames is the last frame many times over.
#
# Package: Pillow 13.0.0 (Python 3.11)
# Guess: list(ImageSequence.Iterator(image)) are the frames, one image each.
# Instead: Every element is the very same object, which stands at the last frame when the list is done. Only a
#   conversion or copy inside the loop gives frames. Sizes and counts look right.
# Why it matters: A GIF or WebP handed to a video model in this way is a still image: it answers "nothing
#   moves", and the number of frames and tokens is as expected.
# Seen: converted in the loop: [(255, 0, 0), (0, 255, 0), (0, 0, 255)]; listed first: [(0, 0, 255), (0, 0, 255),
#   (0, 0, 255)]
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet pillow==13.0.0
cd "$dir"
HF_HUB_OFFLINE=1 HF_HOME="$dir" TRANSFORMERS_VERBOSITY=error venv/bin/python -W ignore - 2>errors <<'PY' || { cat errors >&2; exit 1; }
import sys
from PIL import Image, ImageSequence

frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "lime", "blue")]
frames[0].save("clip.gif", save_all=True, append_images=frames[1:], duration=100)
image = Image.open("clip.gif")
listed = [frame.convert("RGB").getpixel((0, 0)) for frame in list(ImageSequence.Iterator(image))]
looped = [frame.convert("RGB").getpixel((0, 0)) for frame in ImageSequence.Iterator(image)]
if len(set(looped)) != 3 or len(looped) != 3:
    sys.exit(f"Changed: converted inside the loop the frames are {looped}.")
if len(listed) != 3 or len(set(listed)) != 1:
    sys.exit(f"Changed: the listed frames are {listed}.")
print(f"converted in the loop: {looped}; listed first: {listed}")
PY

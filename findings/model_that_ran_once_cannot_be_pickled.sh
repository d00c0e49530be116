#!/usr/bin/env bash
# A LLaVA model can be pickled until its first forward; afterwards it can not.
#
# Package: transformers 5.24.0 (with torch 2.13.0, Python 3.11)
# Guess: Whether a model can be pickled depends on what it is, not on whether it has been used: a forward in
#   evaluation mode leaves nothing behind.
# Instead: The first forward puts hooks that are local functions on the vision tower's layers and leaves them
#   there. pickle.dumps and torch.save(model) raise from then on.
# Why it matters: Ray, multiprocessing with spawn and torch.save work in a smoke test on a fresh model and fail
#   in the program that warmed the model up.
# Seen:
#   LLaVA pickles to 299475 bytes before its first forward; after it: AttributeError: Can't pickle local object 'install_output_capuring_hook.<locals>.output_capturing_hook'
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet torch==2.13.0
"$dir/venv/bin/pip" install --quiet transformers==5.24.0
cd "$dir"
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error venv/bin/python -W ignore - <<'PY'
import pickle
import sys
import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration

size = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
text = dict(model_type="llama", vocab_size=99, **size)
vision = dict(model_type="clip_vision_model", image_size=28, patch_size=14, **size)
model = LlavaForConditionalGeneration(LlavaConfig(text_config=text, vision_config=vision, image_token_index=98)).eval()
fresh = len(pickle.dumps(model))
with torch.no_grad():
    model(input_ids=torch.tensor([[1] + [98] * 4 + [5]]), pixel_values=torch.randn(1, 3, 28, 28))
try:
    pickle.dumps(model)
except (AttributeError, pickle.PicklingError) as error:
    print(f"LLaVA pickles to {fresh} bytes before its first forward; after it: {type(error).__name__}: {error}")
else:
    sys.exit("Changed: the model can be pickled after a forward.")
PY

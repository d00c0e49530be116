#!/usr/bin/env bash
# Gemma 3: prefill_chunk_size changes the logits of a prompt with an image wherever a chunk ends inside the image.
#
# Package: transformers 5.24.0 (with torch 2.13.0, Python 3.11)
# Guess: A prefill in chunks is the same computation with less memory at a time: equal logits up to rounding.
# Instead: The tokens of an image see each other both ways. Those of the first chunk are computed before the others are
#   there, so they see a part of their image; nothing raises or warns. Chunks that end behind the image, and text alone,
#   are equal to 1e-5.
# Why it matters: The chunk's size is a setting for memory. Nobody knows where the image ends when it is chosen, and
#   the answer depends on it. Seen also for Gemma 4.
# Seen:
#   First logits moved, in standard deviations: chunk behind the image 2e-06, inside it 0.29 and 0.49; text alone 1e-06.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet torch==2.13.0
"$dir/venv/bin/pip" install --quiet transformers==5.24.0
cd "$dir"
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error venv/bin/python -W ignore - <<'PY'
import sys

import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

IMAGE, FIRST, TOKENS = 302, 300, 16
text = dict(vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4)
text |= dict(num_key_value_heads=2, head_dim=16, max_position_embeddings=512, pad_token_id=0, bos_token_id=1)
text |= dict(eos_token_id=None)
vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=4)
tokens = dict(boi_token_index=FIRST, eoi_token_index=301, image_token_index=IMAGE, mm_tokens_per_image=TOKENS)
torch.manual_seed(0)
model = Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision, **tokens)).eval()
for parameter in model.parameters():
    if parameter.ndim > 1:
        torch.nn.init.normal_(parameter, std=0.2)
image = torch.randn(1, 3, 32, 32)
prompt = [1, 5, 6, 7, FIRST] + [IMAGE] * TOKENS + [301, 8, 9, 10, 11]  # the image's tokens are the columns 5 to 20


def first_logits(ids, size=None, **image):
    ids = torch.tensor([ids])
    inputs = dict(input_ids=ids, attention_mask=torch.ones_like(ids), token_type_ids=(ids == IMAGE).int(), **image)
    options = {} if size is None else dict(prefill_chunk_size=size)
    more = dict(do_sample=False, max_new_tokens=1, return_dict_in_generate=True, output_logits=True)
    return model.generate(**inputs, **options, **more).logits[0]


whole = first_logits(prompt, pixel_values=image)
moved = {
    size: float((first_logits(prompt, size, pixel_values=image) - whole).abs().max() / whole.std())
    for size in (21, 13, 8)
}
plain = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
text_only = float((first_logits(plain, 5) - first_logits(plain)).abs().max() / whole.std())
if moved[13] < 1e-3:
    sys.exit("Changed: chunks that end inside an image give the logits of the whole prompt now.")
print(
    f"First logits moved, in standard deviations: chunk behind the image {moved[21]:.0e}, inside it {moved[13]:.2f} and "
    f"{moved[8]:.2f}; text alone {text_only:.0e}."
)
PY

#!/usr/bin/env bash
# Qwen2.5-VL: a chat that goes on from its own KV cache gets another answer when another chat ran on the model in
# between.
#
# Package: transformers 5.24.0 (with torch 2.13.0, Python 3.11)
# Guess: The KV cache and the ids of the whole chat say where its next token stands, whatever the model did since.
# Instead: the distance between a token's column and its position lies on the model, as the last prompt with an image
#   left it. The second turn of chat A is numbered with the distance of chat B; nothing raises or warns. Straight on,
#   and for LLaVA, the second turn equals that of the whole chat without a cache.
# Why it matters: servers and agents that keep a KV cache per chat and one model answer about moved text as soon as two
#   chats take turns. Seen also for Qwen2-VL, Qwen3-VL, Qwen3.5, GLM-4V and ERNIE 4.5 VL.
# Seen:
#   Second turn equal to that without a cache: straight on True, after another chat False (largest difference of a logit 1.6 of the largest).
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet torch==2.13.0
"$dir/venv/bin/pip" install --quiet transformers==5.24.0
cd "$dir"
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error venv/bin/python -W ignore - <<'PY'
import copy
import sys

import torch
from transformers import DynamicCache, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

IMAGE, START, END = 98, 97, 96
text = dict(vocab_size=99, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
text |= dict(num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=None, tie_word_embeddings=False)
text |= dict(rope_parameters=dict(rope_type="default", rope_theta=100.0, mrope_section=[1, 1, 2]))
vision = dict(depth=1, hidden_size=32, intermediate_size=48, num_heads=2, out_hidden_size=32, fullatt_block_indexes=[0])
tokens = dict(image_token_id=IMAGE, video_token_id=95, vision_start_token_id=START, vision_end_token_id=END)
torch.manual_seed(0)
model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision, **tokens)).eval()
for parameter in model.parameters():
    if parameter.ndim > 1:
        torch.nn.init.normal_(parameter, std=0.3)


def prompt(rows, columns):
    count = rows * columns // 4
    ids = torch.tensor([[1, START, *[IMAGE] * count, END, 5, 6, 7]])
    pixels, grid = torch.randn(rows * columns, 1176), torch.tensor([[1, rows, columns]])
    return ids, dict(pixel_values=pixels, image_grid_thw=grid)


def run(ids, **options):
    kinds = dict(mm_token_type_ids=(ids == IMAGE).int(), attention_mask=torch.ones_like(ids))
    more = dict(do_sample=False, return_dict_in_generate=True, output_logits=True)
    return model.generate(input_ids=ids, **kinds, **options, max_new_tokens=3, **more)


ids, image = prompt(4, 8)
first = run(ids, **image, past_key_values=DynamicCache(config=model.config.text_config))
whole = torch.cat([first.sequences, torch.tensor([[8, 9, 10]])], 1)
expected = run(whole, **image).logits[0]
run(ids, **image)
errors = []
for _ in range(2):
    logits = run(whole, past_key_values=copy.deepcopy(first.past_key_values)).logits[0]
    errors.append(float((logits - expected).abs().max() / expected.abs().max()))
    other, its_image = prompt(16, 16)
    run(other, **its_image)  # another chat
if errors[1] < 1e-3:
    sys.exit("Changed: a chat goes on from its cache as if nothing had run in between.")
print(
    f"Second turn equal to that without a cache: straight on {errors[0] < 1e-5}, after another chat {errors[1] < 1e-5} "
    f"(largest difference of a logit {errors[1]:.2g} of the largest)."
)
PY

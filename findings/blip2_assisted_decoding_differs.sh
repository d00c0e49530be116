#!/usr/bin/env bash
# Assisted decoding on BLIP-2 silently writes other tokens than greedy decoding.
#
# Package: transformers 5.24.0 (with torch 2.13.0, Python 3.11)
# Guess: With do_sample=False an assistant model changes the speed only, whatever it drafts: the model checks
#   each draft.
# Instead: The answers differ. BLIP-2 hands its language model the prompt with the image as inputs_embeds. The
#   first check runs these alone, without the drafted tokens, and then reads the logits of as many last columns
#   as if the drafts were there: the first answer token is the prediction for a place inside the prompt.
# Why it matters: Speculative decoding is known as lossless. Here it changes the captions of a served model, and
#   nothing tells so. (InstructBLIP calls its language model in the same way.)
# Seen:
#   BLIP-2 with an assistant: 6 of 6 greedy answers differ from plain greedy decoding.
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
from transformers import Blip2Config, Blip2ForConditionalGeneration, OPTForCausalLM

text = dict(model_type="opt", vocab_size=99, hidden_size=32, word_embed_proj_dim=32, ffn_dim=64, num_hidden_layers=2)
text |= dict(num_attention_heads=4, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=None)
vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
former = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2)
former |= dict(encoder_hidden_size=32, vocab_size=99)
config = Blip2Config(
    vision_config=vision, qformer_config=former, text_config=text, num_query_tokens=4, image_token_index=98
)
torch.manual_seed(0)
model = Blip2ForConditionalGeneration(config).eval()
for parameter in model.parameters():
    if parameter.ndim > 1:
        torch.nn.init.normal_(parameter, std=0.3)
assistant = OPTForCausalLM(config.text_config).eval()
ids = torch.tensor([[98] * 4 + [1, 5, 6, 7, 8]])


def answer(seed, **options):
    pixels = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(seed))
    inputs = dict(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels)
    return model.generate(**inputs, max_new_tokens=8, do_sample=False, **options)[0, 9:].tolist()


greedy = [answer(seed) for seed in range(6)]
assisted = [answer(seed, assistant_model=assistant) for seed in range(6)]
differing = sum(one != other for one, other in zip(greedy, assisted))
if differing == 0:
    sys.exit("Changed: assisted decoding gives the greedy answers now.")
print(f"BLIP-2 with an assistant: {differing} of 6 greedy answers differ from plain greedy decoding.")
PY

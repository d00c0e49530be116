"""Tokenizers with the special ids and chat templates of three published families, built without a hub.

The vocabularies are small; the ids of everything that frames the user's words are the published ones (LLaVA) or stand
in the published order (Qwen), and the templates render what the published ones render.
"""

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

LLAVA_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
QWEN_TURN = (
    "<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n"
)
QWEN_END = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
QWEN25_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}" + QWEN_TURN + "{% endfor %}" + QWEN_END
)
QWEN3_TEMPLATE = "{% for message in messages %}" + QWEN_TURN + "{% endfor %}" + QWEN_END

# In the order in which Qwen's vocabularies list them, after all words.
QWEN_SPECIALS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]


def vicuna_tokenizer() -> PreTrainedTokenizerFast:
    """Llama 2's spelling of the roles at its own ids; any other text goes by letters."""
    pieces = [(f"<unused {i}>", -1000.0) for i in range(32000)]
    spelled = {"<unk>": 0, "<s>": 1, "</s>": 2, "\n": 13, "▁": 29871, ":": 29901, "ER": 1001, "▁US": 3148, "▁A": 319,
               "SS": 1799, "IST": 9047, "ANT": 13566}  # fmt: skip
    for piece, place in spelled.items():
        pieces[place] = (piece, -1.0)
    pieces[11889], pieces[29909] = ("USER", -4.0), ("A", -4.0)
    letters = [chr(c) for c in range(33, 127) if chr(c) not in (*spelled, "A")]
    for place, letter in enumerate(letters, start=20000):
        pieces[place] = (letter, -8.0)
    raw = Tokenizer(models.Unigram(pieces, unk_id=0))
    raw.normalizer = normalizers.Replace(" ", "▁")
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    raw.decoder = decoders.Metaspace()
    raw.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<s>", "</s>", "<image>", "<pad>")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    tokenizer.chat_template = LLAVA_TEMPLATE
    return tokenizer


def qwen_tokenizer(template: str) -> PreTrainedTokenizerFast:
    """Byte-level, every byte a token, special tokens above them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["user", "assistant", "system"]
    vocabulary = {piece: i for i, piece in enumerate(alphabet)}
    merges = []
    for word in words:  # roles are one token each, as in the published vocabularies
        for end in range(2, len(word) + 1):
            vocabulary.setdefault(word[:end], len(vocabulary))
            merges.append((word[: end - 1], word[end - 1]))
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in QWEN_SPECIALS])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = template
    return tokenizer

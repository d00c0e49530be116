"""Published chat templates, and conversations with the question marked by hand.

`chats/templates.json` holds how each template frames a message: the strings before and after every role's words, where
images, system words and tools go, and the special tokens. They were re-typed from model cards and tokenizer
configurations. `chats/conversations.json` holds conversations, each with its question as it is spelled there. One Jinja
template, `chats/any.jinja`, renders any of them.
"""

import json
import string
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CHATS = Path(__file__).parent / "chats"
CONVERSATIONS = json.loads((CHATS / "conversations.json").read_text())
JINJA = (CHATS / "any.jinja").read_text()
IMAGE_TOKENS = 5
TOOL = {"name": "find_place", "description": "Where it is.", "parameters": {"type": "object", "properties": {}}}
# Words, digits one by one, signs with the line ends behind them, blanks: as current vocabularies do.
SPLIT = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
ROLES = "user\nassistant\nsystem\ntool\nmodel\n\n"  # one token each, as in the published vocabularies
DEFAULTS = {"start": "", "prompt": "", "image": "", "default_system": "", "images_in": ["user"], "config": {}}


@dataclass(frozen=True)
class PublishedTemplate:
    """One entry of `chats/templates.json`, in the place of a processor."""

    facts: dict

    def __str__(self):
        return self.facts["name"]

    def get(self, name):
        return self.facts.get(name, DEFAULTS.get(name))

    @cached_property
    def tokenizer(self):
        make = train_sentencepiece if self.get("vocabulary") == "sentencepiece" else train_bytes
        raw = make(spell_corpus())
        raw.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in self.get("specials")])
        raw.add_tokens([AddedToken(token, normalized=False) for token in ("<tool_response>", "</tool_response>")])
        return PreTrainedTokenizerFast(tokenizer_object=raw, chat_template=JINJA)

    def apply_chat_template(self, messages, **options):
        return self.tokenizer.apply_chat_template(messages, t={**DEFAULTS, **self.facts}, **options)

    def stop_ids(self):
        return self.tokenizer.convert_tokens_to_ids(self.get("stop"))

    def image_id(self):
        names = self.get("config")
        return self.tokenizer.convert_tokens_to_ids(names.get("image_token_id") or names["media_placeholder_token_id"])

    def is_for(self, conversation):
        """Whether the template can write this conversation."""
        has_call = bool(self.get("call")) and bool(self.get("tool"))
        needs = {
            "call": has_call, "tools": bool(self.get("tools")), "inline": bool(self.get("inline")),
            "system": "system" in self.get("images_in"), "assistant": "assistant" in self.get("images_in"),
            "tool image": has_call and "tool" in self.get("images_in"),
        }  # fmt: skip
        if conversation["messages"][0]["role"] == "system" and not self.get("system"):
            return False
        return needs.get(conversation.get("needs"), True)

    def render(self, conversation):
        """The prompt's ids; an image has several tokens."""
        open_word, close_word = self.get("inline") or ("", "")
        messages = json.dumps(conversation["messages"]).replace("OPEN", open_word).replace("CLOSE", close_word)
        options = {"tools": [{"type": "function", "function": TOOL}]} if conversation.get("tools") else {}
        prompt = self.apply_chat_template(
            json.loads(messages), tokenize=False, add_generation_prompt=not conversation.get("answered"), **options
        )
        image = self.tokenizer.convert_ids_to_tokens(self.image_id())
        return self.tokenizer(prompt.replace(image, image * IMAGE_TOKENS), add_special_tokens=False).input_ids


class PublishedConfig:
    """A configuration that names the tokens that the published one names."""

    def __init__(self, published):
        for name, token in published.get("config").items():
            setattr(self, name, published.tokenizer.convert_tokens_to_ids(token))
        self.image_token_id, self.vocab_size = published.image_id(), len(published.tokenizer)

    def get_text_config(self):
        return self


def read_templates():
    return [PublishedTemplate(facts) for facts in json.loads((CHATS / "templates.json").read_text())]


def spell_corpus():
    texts = [part.get("text", "") for c in CONVERSATIONS for m in c["messages"] for part in m["content"]]
    return [*texts, *(f"{text}\n\n" for text in texts), *[ROLES] * 40] * 3


def train_bytes(texts):
    """A small byte-level vocabulary."""
    raw = Tokenizer(models.BPE())
    pieces = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    raw.pre_tokenizer = pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(False, use_regex=False)])
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False))
    return raw


def train_sentencepiece(texts):
    """A small vocabulary of the kind of Llama 2's, with bytes for what it does not spell."""
    raw = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    blanks = decoders.Replace("▁", " ")
    raw.decoder = decoders.Sequence([blanks, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    names = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = list(string.printable.strip())
    trainer = trainers.BpeTrainer(vocab_size=1000, special_tokens=names, initial_alphabet=letters, show_progress=False)
    raw.train_from_iterator([text.replace("\n", " ") for text in texts], trainer)
    spelled = json.loads(raw.to_str())
    spelled["added_tokens"] = spelled["added_tokens"][:1]  # bytes are no special tokens there
    return Tokenizer.from_str(json.dumps(spelled))

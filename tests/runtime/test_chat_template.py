"""The question is found in prompts of any chat template that was learned before."""

from types import SimpleNamespace

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from foveate.errors import ModelError
from foveate.models import Family
from foveate.pipeline.question import find_question, read_template
from foveate.runtime.chat_template import learn_template, read_chat_template
from templates import QWEN3_TEMPLATE, QWEN25_TEMPLATE, vicuna_tokenizer

PARTS = (
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
)
EACH, END = "{% for message in messages %}", "{% endfor %}"


def prompt(text):
    return "{% if add_generation_prompt %}" + text + "{% endif %}"


def by_role(*turns):
    user, assistant, system = (turn.replace("WORDS", PARTS) for turn in turns)
    return (
        "{% if message['role'] == 'user' %}" + user + "{% elif message['role'] == 'assistant' %}" + assistant
        + "{% else %}" + system + "{% endif %}"
    )  # fmt: skip


REFUSE = "{{ raise_exception('no system') }}"
STYLES = {  # what published templates render, in the forms that differ
    "chatml": QWEN3_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "IMAGE"),
    "chatml with a system prompt of its own": QWEN25_TEMPLATE.replace(
        "<|vision_start|><|image_pad|><|vision_end|>", "IMAGE"
    ),
    "headers": "<s>" + EACH + "<|h|>{{ message['role'] }}<|/h|>\n\n" + PARTS + "<|eot|>" + END
    + prompt("<|h|>assistant<|/h|>\n\n"),
    "start of turn": "<s>" + EACH + by_role("<turn>user\nWORDS<end>\n", "<turn>model\nWORDS<end>\n", REFUSE) + END
    + prompt("<turn>model\n"),
    "instructions": "<s>" + EACH + by_role("[INST]WORDS[/INST]", "WORDS</s>", "[SYS]WORDS[/SYS]") + END,
    "role tokens": "<s>" + EACH + by_role("<T><U>WORDS<E>", "<T><C>WORDS<E>", "<T><S>WORDS<E>") + END
    + prompt("<T><C>"),
    "token and newline": "<s>" + EACH + by_role("<|user|>\nWORDS", "<|assistant|>\nWORDS", "<|system|>\nWORDS") + END
    + prompt("<|assistant|>\n"),
    "plain words": EACH + by_role("Human: WORDS\n\n", "Assistant: WORDS</s>", "WORDS\n\n") + END + prompt("Assistant:"),
    "middle": EACH + "<|im_{{ message['role'] }}|>{{ message['role'] }}<|mid|>" + PARTS + "<|im_end|>" + END
    + prompt("<|im_assistant|>assistant<|mid|>"),
}  # fmt: skip
SPECIALS = (
    "<s>", "</s>", "<img>", "<boi>", "<eoi>", "<|im_start|>", "<|im_end|>", "<|h|>", "<|/h|>", "<|eot|>", "<turn>",
    "<end>", "[INST]", "[/INST]", "[SYS]", "[/SYS]", "<T>", "<U>", "<C>", "<S>", "<E>", "<|user|>", "<|assistant|>",
    "<|system|>", "<|im_user|>", "<|im_assistant|>", "<|im_system|>", "<|mid|>",
)  # fmt: skip


def byte_tokenizer(template):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(alphabet)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = template.replace("IMAGE", "<boi><img><eoi>\n")
    return tokenizer


class Config:
    """As little as a configuration says of a template: the end and the image."""

    def __init__(self, tokenizer, image="<img>"):
        self.image_token_id = tokenizer.convert_tokens_to_ids(image)
        self.vocab_size = 100_000
        self.eos_token_id = tokenizer.eos_token_id

    def get_text_config(self):
        return self


@pytest.fixture(params=STYLES)
def question_of(request):
    tokenizer = byte_tokenizer(STYLES[request.param])
    config = Config(tokenizer)
    model = SimpleNamespace(config=config)
    learn_template(model, tokenizer)
    template = read_template(model, Family("llava"))

    def extract(*turns, system=None):
        messages = [{"role": "system", "content": system}] if system else []
        for number, turn in enumerate(turns):
            parts = [{"type": "image"} if part is None else {"type": "text", "text": part} for part in turn]
            messages.append({"role": ("user", "assistant")[number % 2], "content": parts})
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=len(turns) % 2 == 1)
        ids = tokenizer(text, add_special_tokens=False).input_ids
        where = find_question(ids, ids.index(config.image_token_id), template, [False] * len(ids))
        return "".join(tokenizer.decode([ids[i] for i in where]).split())  # blanks of their own are no words

    return extract


def test_the_question_and_nothing_else(question_of):
    assert question_of([None, "What is it?"]) == "Whatisit?"
    assert question_of(["Look at this: ", None, "and say what it is."]) == "Lookatthis:andsaywhatitis."


def test_the_last_turn_is_the_question(question_of):
    assert question_of([None, "What is it?"], ["A cat."], ["How old?"]) == "Howold?"
    assert question_of([None, "What is it?"], ["A cat."]) == "Whatisit?"


@pytest.mark.parametrize("question_of", [name for name in STYLES if name != "start of turn"], indirect=True)
def test_a_system_prompt_is_no_question(question_of):
    assert question_of([None, "Who is it?"], system="Speak like a pirate.") == "Whoisit?"


def test_vicuna_spells_its_roles_in_two_ways():
    tokenizer = vicuna_tokenizer()
    template = read_chat_template(tokenizer)
    assert list(template.openings) == ["USER:"]
    assert list(template.endings) == ["ASSISTANT:"]
    for text in ("USER: Who? ASSISTANT:", "A dialog. USER: Who? ASSISTANT:", "\nUSER: Who?\n ASSISTANT: A cat.</s>"):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        columns = find_question(ids, 0, template, [False] * len(ids))
        assert tokenizer.decode([ids[c] for c in columns]).strip() == "Who?"


@pytest.mark.parametrize("template", [None, EACH + PARTS + END, "{{ raise_exception('no') }}", "hello"])
def test_errors_for_templates_that_cannot_be_learned(template):
    tokenizer = byte_tokenizer(template or "")
    if template is None:
        tokenizer.chat_template = None
    with pytest.raises(ModelError, match=r"set config\.foveate_template by hand"):
        read_chat_template(tokenizer)


def test_a_slow_tokenizer_is_refused():
    with pytest.raises(ModelError, match="load the fast one"):
        read_chat_template(SimpleNamespace(is_fast=False))

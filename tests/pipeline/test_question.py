import pytest
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    Qwen2_5_VLConfig,
    Qwen3VLConfig,
)

from foveate.errors import ModelError
from foveate.models.llava import Llava
from foveate.models.qwen_vl import Qwen3VL, Qwen25VL
from foveate.models.template import Template, default_template
from foveate.pipeline.question import find_question
from templates import QWEN3_TEMPLATE, QWEN25_TEMPLATE, qwen_tokenizer, vicuna_tokenizer

IMAGE = {"type": "image"}


def say(role, *parts):
    content = [part if isinstance(part, dict) else {"type": "text", "text": part} for part in parts]
    return {"role": role, "content": content}


def llava():
    tokenizer = vicuna_tokenizer()
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(),
        text_config=LlamaConfig(vocab_size=32064, bos_token_id=1, eos_token_id=2, pad_token_id=32001),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    return tokenizer, config, Llava("llava"), [2], "<image>"


def qwen(family, config_class, template):
    tokenizer = qwen_tokenizer(template)
    at = tokenizer.convert_tokens_to_ids
    config = config_class(
        text_config={
            "vocab_size": len(tokenizer) + 40, "bos_token_id": at("<|endoftext|>"), "eos_token_id": at("<|im_end|>")
        },
        image_token_id=at("<|image_pad|>"), video_token_id=at("<|video_pad|>"),
        vision_start_token_id=at("<|vision_start|>"), vision_end_token_id=at("<|vision_end|>"),
    )  # fmt: skip
    return tokenizer, config, family, [at("<|im_end|>"), at("<|endoftext|>")], "<|image_pad|>"


FAMILIES = {
    "llava": llava,
    "qwen2_5_vl": lambda: qwen(Qwen25VL("qwen2_5_vl"), Qwen2_5_VLConfig, QWEN25_TEMPLATE),
    "qwen3_vl": lambda: qwen(Qwen3VL("qwen3_vl"), Qwen3VLConfig, QWEN3_TEMPLATE),
}


@pytest.fixture(params=FAMILIES)
def question_of(request):
    tokenizer, config, family, stops, image = FAMILIES[request.param]()

    def found(messages, answer=None, pads=0):
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        text = text.replace(image, image * 5)
        ids = tokenizer(text).input_ids
        ignored = [True] * pads + [False] * len(ids)
        ids = [config.get_text_config().pad_token_id or 0] * pads + ids
        if answer is not None:
            tail = tokenizer(answer, add_special_tokens=False).input_ids
            ids, ignored = ids + tail, ignored + [True] * len(tail)
        first = ids.index(tokenizer.convert_tokens_to_ids(image))
        where = find_question(ids, first, family.template(config, stops), ignored)
        return tokenizer.decode([ids[i] for i in where]).replace(" ", "")

    return found


def test_llava_ids_are_the_published_ones():
    """The prompt of the model card, as transformers' own test of the LLaVA processor spells it."""
    tokenizer = vicuna_tokenizer()
    ids = tokenizer("USER: <image>\nWhat? ASSISTANT:").input_ids
    assert ids[:3] == [3148, 1001, 29901]
    assert ids[-5:] == [319, 1799, 9047, 13566, 29901]


def test_one_turn(question_of):
    assert question_of([say("user", IMAGE, "What is shown in this image?")]) == "Whatisshowninthisimage?"


def test_words_before_the_picture_count_too(question_of):
    assert question_of([say("user", "Look: what is it?", IMAGE)]) == "Look:whatisit?"


def test_padding_is_no_word(question_of):
    assert question_of([say("user", IMAGE, "How many?")], pads=4) == "Howmany?"


def test_system_prompt_is_no_question(question_of):
    messages = [say("system", "Answer like a pirate."), say("user", IMAGE, "Who is it?")]
    assert question_of(messages) == "Whoisit?"


def test_last_turn_of_the_user_asks(question_of):
    messages = [say("user", IMAGE, "Who is it?"), say("assistant", "A cat."), say("user", "And how old?")]
    assert question_of(messages) == "Andhowold?"


def test_several_pictures_share_the_question(question_of):
    assert question_of([say("user", IMAGE, IMAGE, "Which is older?")]) == "Whichisolder?"


def test_answers_under_a_loss_are_hidden(question_of):
    assert question_of([say("user", IMAGE, "Who?")], answer=" A cat.") == "Who?"


def test_answer_without_labels_is_not_the_users(question_of):
    messages = [say("user", IMAGE, "Who is it?"), say("assistant", "A cat.")]
    assert question_of(messages) == "Whoisit?"


def test_no_words_no_question(question_of):
    assert question_of([say("user", IMAGE)]) == ""


def test_bare_prompt_without_template():
    template = Template(frozenset({7, 9}), None, frozenset({9}), frozenset({7}))
    assert find_question([7, 7, 3, 4, 5], 0, template, [False] * 5) == [2, 3, 4]


def test_malformed_template_of_a_checkpoint_is_refused():
    config = llava()[1]
    config.foveate_template = {"roles": [[346, 25]]}
    with pytest.raises(ModelError, match="foveate_template"):
        default_template(config, [2])


def test_words_of_an_unknown_role_are_left_out():
    template = Template(frozenset({7, 8, 9}), None, frozenset({9}), frozenset({7}))
    ids = [8, 1, 0, 7, 3, 4, 9, 8, 2, 0, 5, 5, 9]
    assert find_question(ids, 3, template, [False] * len(ids)) == [4, 5]

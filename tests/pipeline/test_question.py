import warnings
from dataclasses import replace

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    Qwen2_5_VLConfig,
    Qwen3VLConfig,
)

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.errors import FoveateWarning, ModelError
from foveate.models import lookup
from foveate.models.framing import NO_TURNS, TOOL, UNSURE
from foveate.models.llava import Llava
from foveate.models.qwen_vl import Qwen3VL, Qwen25VL
from foveate.models.template import Template, default_template
from foveate.models.visual_input import make_visual_input
from foveate.pipeline.question import (
    LABELLED,
    LEARNED,
    NO_QUESTION,
    NO_SHARED_SPACE,
    WARNED,
    find_question,
    locate_questions,
    read_template,
    warn_once,
)
from foveate.runtime.chat_template import learn_template, read_chat_template
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


# Ids of a small vocabulary: words below 50, special tokens from 50 on.
END, OPEN, BOX, IMAGE_ID, START, PAD, USER_MARK, ASSISTANT_MARK = range(50, 58)
USER, ASSISTANT, SYSTEM, LINE = 1, 2, 3, 4
PLAIN = Template(
    controls=frozenset({END, IMAGE_ID, START, PAD}), controls_from=50, closers=frozenset({END}),
    structure=frozenset({IMAGE_ID, START, PAD}),
)  # fmt: skip


def turn(role, *words):
    return [OPEN, role, LINE, *words, END, LINE]


WAITS = [OPEN, ASSISTANT, LINE]


def read(ids, template=PLAIN, ignored=None, *, own=False):
    """The question's ids, and whether a doubt goes with it."""
    image = ids.index(IMAGE_ID) if IMAGE_ID in ids else 0
    dialog = template.split(ids, image, ignored or [False] * len(ids))
    columns = dialog.find_question(image if own else None)
    assert columns == find_question(ids, image, template, ignored or [False] * len(ids), own=own)
    return [ids[column] for column in columns], dialog.doubt


def test_bare_prompt_without_template():
    template = Template(frozenset({7, 9}), None, frozenset({9}), frozenset({7}))
    assert find_question([7, 7, 3, 4, 5], 0, template, [False] * 5) == [2, 3, 4]


def test_a_prompt_without_turns_is_the_question_with_a_doubt_unless_that_is_known():
    ids = [IMAGE_ID, 10, 11, 12]
    assert read(ids) == ([10, 11, 12], NO_TURNS)
    assert read(ids, replace(PLAIN, is_bare=True)) == ([10, 11, 12], "")
    turns = [*turn(USER, 10), *WAITS]
    assert read(turns, replace(PLAIN, is_bare=True)) == ([USER, LINE, 10, LINE, ASSISTANT, LINE], "")
    assert read(ids, replace(PLAIN, filler=frozenset({11}))) == ([10, 12], NO_TURNS)
    assert PLAIN.split(ids, 0, [False] * 4).is_whole
    assert not PLAIN.split([*turn(USER, 10), *WAITS], 0, [False] * 9).is_whole


@pytest.mark.parametrize("before", [[], [START], [START, PAD]])
def test_special_tokens_in_the_words_open_no_turn(before):
    ids = [*before, *turn(USER, IMAGE_ID, 10, BOX, 11, 12, BOX, 13), *WAITS]
    assert read(ids) == ([10, 11, 12, 13], "")


@pytest.mark.parametrize("where", [SYSTEM, USER, ASSISTANT, 5])
def test_the_user_speaks_before_the_assistant_wherever_the_image_is(where):
    def words(role, *ids):
        return turn(role, *([IMAGE_ID] if role == where else []), *ids)

    ids = [*words(SYSTEM, 20, 21), *words(USER, 10), *words(ASSISTANT, 30), *words(5, 31), *WAITS]
    assert read(ids) == ([10], "")
    assert read([*ids[:-3], *words(ASSISTANT, 33), *words(USER, 11), *WAITS]) == ([11], "")


def test_answers_of_a_training_row_are_not_the_users():
    ids = [*turn(USER, IMAGE_ID, 10), *turn(ASSISTANT, 30)]
    assert read(ids) == ([10], "")
    assert read([*turn(SYSTEM, 20), *ids]) == ([10], "")
    assert read([*ids, *turn(USER, 11), *turn(ASSISTANT, 31)]) == ([11], "")
    assert read([*ids, *turn(USER, 11)]) == ([11], "")  # no assistant opens a conversation
    assert read([*turn(SYSTEM, 20), *turn(USER, IMAGE_ID, 10)]) == ([10], UNSURE)
    assert read(ids[:-2]) == ([10], UNSURE)  # an answer that has no end
    assert read([*ids, *turn(USER, 11), OPEN, ASSISTANT, LINE, 31, 32]) == ([11], UNSURE)
    assert read([IMAGE_ID, *turn(USER, 10), *turn(ASSISTANT, 30)]) == ([10], "")


def test_the_result_of_a_tool_in_the_users_turn_is_left_out_with_a_doubt():
    ids = [*turn(USER, IMAGE_ID, 10), *turn(ASSISTANT, 30)]
    assert read([*ids, *turn(USER, BOX, 40, USER_MARK), *WAITS]) == ([10], TOOL)
    assert read([*ids, *turn(USER, BOX, 40, 41), *WAITS]) == ([40, 41], "")
    assert read([*ids, *turn(USER, 40, BOX), *WAITS]) == ([40], "")
    assert read([*ids, *turn(USER, BOX), *WAITS]) == ([10], "")
    assert read([*turn(USER, BOX, 40, BOX, IMAGE_ID), *WAITS]) == ([40], "")
    assert read([*turn(USER, IMAGE_ID, BOX, 40, USER_MARK), *WAITS])[0] == [40]
    assert read([*turn(SYSTEM, IMAGE_ID), *turn(USER, BOX, 40, USER_MARK), *WAITS]) == ([40], "")


def test_a_turn_without_words_leaves_the_question_before_it():
    ids = [*turn(USER, IMAGE_ID, 10), *turn(ASSISTANT, 30), *turn(USER, IMAGE_ID), *WAITS]
    assert read(ids) == ([10], "")
    assert read([*turn(USER, IMAGE_ID), *WAITS]) == ([], "")


def test_line_ends_are_no_words():
    assert read([*turn(USER, IMAGE_ID, LINE, 10, LINE, 11), *WAITS]) == ([10, 11], "")


def test_a_role_that_is_the_last_id_before_the_words():
    """Cohere's turns have no line end behind the role."""

    def words(role, *ids):
        return [OPEN, role, *ids, END]

    ids = [START, *words(USER, IMAGE_ID, 10), *words(ASSISTANT, 30), *words(USER, 10, 12), OPEN, ASSISTANT]
    assert read(ids) == ([10, 12], "")


def test_headers_of_four_ids():
    def words(role, *ids):
        return [OPEN, role, BOX, LINE, *ids, END]

    assert read([START, *words(USER, IMAGE_ID, 10, 11), OPEN, ASSISTANT, BOX, LINE]) == ([10, 11], "")
    long = [[OPEN, role, BOX, LINE, 7, *words, END] for role, words in ((USER, [IMAGE_ID, 10]), (ASSISTANT, [30]))]
    assert read([*long[0], *long[1]])[0] == [7, 10]  # one line end at most


def test_an_answer_may_begin_as_the_question_does():
    assert read([*turn(USER, 10, 11, IMAGE_ID), *turn(ASSISTANT, 10, 30)]) == ([10, 11], "")
    assert read([*turn(USER, IMAGE_ID, 10, 11), *turn(ASSISTANT, 10, 30)]) == ([10, 11], "")


def test_openings_in_ordinary_ids_leave_a_doubt():
    """Gemma's token that opens a turn stands in no configuration."""
    opener = 9

    def words(role, *ids):
        return [opener, role, LINE, *ids, END, LINE]

    ids = [
        START,
        *words(USER, IMAGE_ID, 10, opener, 11),
        *words(ASSISTANT, 30),
        *words(USER, 40, 41),
        opener,
        ASSISTANT,
        LINE,
    ]
    assert read(ids) == ([40, 41], UNSURE)
    assert read([*ids[:10], opener, ASSISTANT, LINE]) == ([10, opener, 11], UNSURE)
    # behind an ordinary id no turn opens
    assert read([8, *ids])[1] == NO_TURNS


def test_a_mark_for_each_role_leaves_a_doubt():
    first = [START, USER_MARK, IMAGE_ID, 10, 11, END]
    assert read([*first, ASSISTANT_MARK]) == ([10, 11], UNSURE)
    assert read([*first, ASSISTANT_MARK, 30, END, USER_MARK, 12, END, ASSISTANT_MARK]) == ([12], UNSURE)
    assert read([*first, 12, 13, ASSISTANT_MARK])[1] == UNSURE
    shown = [START, USER_MARK, 10, IMAGE_ID, END, ASSISTANT_MARK, 30, END, USER_MARK, IMAGE_ID, END, ASSISTANT_MARK]
    assert read(shown) == ([10], UNSURE)
    assert read([*first, 12, 13, 14, ASSISTANT_MARK])[1] == NO_TURNS


def test_a_mark_in_every_turn_opens_the_answer_and_leaves_a_doubt():
    """DeepSeek's users' turns have no end."""
    ids = [START, USER_MARK, IMAGE_ID, 10, ASSISTANT_MARK, 30, END, USER_MARK, 11, ASSISTANT_MARK, 31, END]
    assert read(ids)[1] == UNSURE
    assert read([START, USER_MARK, IMAGE_ID, 10, 11, 12, ASSISTANT_MARK])[1] == UNSURE


def test_the_systems_words_in_the_users_first_turn_end_at_their_own_id():
    template = replace(PLAIN, system_ends=frozenset({8}), filler=frozenset({8}))
    ids = [*turn(USER, 20, 21, 8, IMAGE_ID, 10), *WAITS]
    assert read(ids, template) == ([10], "")
    assert read(ids) == ([20, 21, 8, 10], "")
    assert read([*turn(USER, 20, IMAGE_ID, 10, 8, 11), *WAITS], template) == ([20, 10, 11], "")
    later = [*turn(USER, 10), *turn(ASSISTANT, 30), *turn(USER, 12, 8, IMAGE_ID, 13), *WAITS]
    assert read(later, template) == ([12, 13], "")


@pytest.mark.parametrize("pad", [END, PAD, 10])
def test_padding_of_any_kind_on_either_side(pad):
    ids = [*turn(SYSTEM, 20), *turn(USER, IMAGE_ID, 10), *WAITS]
    pads = [pad] * 4
    assert read([*pads, *ids], ignored=[True] * 4 + [False] * len(ids)) == ([10], "")
    assert read([*ids, *pads], ignored=[False] * len(ids) + [True] * 4) == ([10], "")


def test_roles_spelled_in_ordinary_ids():
    template = replace(PLAIN, roles=(((1, 5), (6, 5)), ((2, 5),)), closers=frozenset({END}))
    ids = [20, 1, 5, IMAGE_ID, 10, 2, 5, 30, END, 31, 6, 5, 11, 12, 2, 5]
    assert read(ids, template) == ([11, 12], "")
    assert read(ids[:10], template) == ([10], "")
    assert read(ids, template, own=True) == ([10], "")
    assert read([IMAGE_ID, 2, 5, 10], template)[1] == NO_TURNS
    assert read([*turn(USER, IMAGE_ID, 10), *WAITS], template) == ([10], "")
    assert read([1, 5, 10, END, 11, 2, 5], template) == ([10], "")


def test_the_question_to_each_image():
    before, after = [*turn(USER, 10), *turn(ASSISTANT, 30)], [*turn(ASSISTANT, 31), *turn(USER, 12), *WAITS]
    ids = [*before, *turn(USER, IMAGE_ID, 11), *after]
    assert read(ids, own=True)[0] == [11]
    assert read(ids)[0] == [12]
    shown = [*before, *turn(USER, IMAGE_ID), *after]
    assert read(shown, own=True)[0] == [12]
    assert read([*shown[:18], *WAITS], own=True)[0] == [10]
    called = [*turn(USER, 10), *turn(ASSISTANT, 30), *turn(5, IMAGE_ID, 32), *WAITS]
    assert read(called, own=True)[0] == [10]


def test_malformed_template_of_a_checkpoint_is_refused():
    config = llava()[1]
    config.foveate_template = {"roles": [[346, 25]]}
    with pytest.raises(ModelError, match="foveate_template"):
        default_template(config, [2])


def test_words_of_an_unknown_role_are_left_out():
    template = Template(frozenset({7, 8, 9}), None, frozenset({9}), frozenset({7}))
    ids = [8, 1, 0, 7, 3, 4, 9, 8, 2, 0, 5, 5, 9]
    assert find_question(ids, 3, template, [False] * len(ids)) == [4, 5]


LLAVA = lookup.family("llava")
ROLES = {"roles": [[[20]], [[21]]]}


@pytest.fixture
def tiny():
    return make_tiny_model(LLAVA)


def locate(model, rows, ignored=(), labels=None, **options):
    """`locate_questions` on rows of ids whose images have two placeholders; the ids of each question, and the notes."""
    ids, table = torch.tensor(rows), model.get_input_embeddings().weight
    mask = torch.ones_like(ids)
    for row, column in ignored:
        mask[row, column] = 0
    image = LLAVA.token_id(model.config)
    items = []
    for row, tokens in enumerate(rows):
        places = [column for column, token in enumerate(tokens) if token == image]
        for first, last in zip(places[::2], places[1::2], strict=True):
            columns = torch.tensor([first, last])
            items.append(make_visual_input("image", row, columns, first, torch.zeros(2, table.shape[1])))
    inputs = {"input_ids": ids, "attention_mask": mask, **({} if labels is None else {"labels": torch.tensor(labels)})}
    questions, notes = locate_questions(model, LLAVA, inputs, mask, items[::-1], **options)
    asks = {row: (table == question[:, None]).all(-1).nonzero()[:, 1].tolist() for row, question in questions.items()}
    assert not any(question.requires_grad for question in questions.values())
    return asks, notes


def test_questions_of_a_batch(tiny):
    image = tiny.config.image_token_id
    vars(tiny)[LEARNED] = ROLES
    rows = [[20, image, image, 11, 12, 21], [20, 13, 14, 15, 16, 21], [9, 20, image, image, 17, 21]]
    assert locate(tiny, rows) == ({0: [11, 12], 2: [17]}, [])
    assert locate(tiny, rows, ignored=[(0, 4)]) == ({0: [11], 2: [17]}, [])


def test_ids_between_an_images_own_tokens_are_no_words(tiny):
    image = tiny.config.image_token_id
    assert locate(tiny, [[10, image, 11, image, 12]]) == ({0: [10, 12]}, [])


def test_words_that_label_images_are_no_question(tiny):
    image = tiny.config.image_token_id
    rows = [[11, image, image, 12, image, image, 13, 14], [11, image, image, 12, 12, 12, 12, 12]]
    assert locate(tiny, rows)[0] == {0: [11, 12, 13, 14], 1: [11, *[12] * 5]}
    assert locate(tiny, rows, is_last=True)[0] == {0: [13, 14], 1: [12] * 5}


def test_the_first_image_of_a_row_shows_its_turn(tiny):
    image = tiny.config.image_token_id
    tiny.config.eos_token_id = tiny.generation_config.eos_token_id = 30
    del vars(tiny)[LEARNED]
    rows = [[40, 1, image, image, 10, 30, 40, 2, 11, 30, 40, 1, image, image, 12, 30, 40, 2]]
    assert locate(tiny, rows) == ({0: [12]}, [UNSURE])  # 40 is an ordinary id


def test_rows_without_a_question_are_noted_once(tiny):
    image = tiny.config.image_token_id
    rows = [[image, image], [image, image]]
    assert locate(tiny, rows) == ({0: [], 1: []}, [NO_QUESTION])
    del vars(tiny)[LEARNED]
    asks, notes = locate(tiny, [[image, image, 0], [image, image, 11], [image, image, 12]], ignored=[(0, 2)])
    assert asks == {0: [], 1: [11], 2: [12]}
    assert notes == [NO_QUESTION, NO_TURNS]


def test_labels_never_hide_the_users_turn(tiny):
    """A loss over the whole text, as TRL's default for chat data has it."""
    image = tiny.config.image_token_id
    vars(tiny)[LEARNED] = ROLES
    row = [20, image, image, 11, 12, 21, 13, 14]
    for labels in (row, [-100, -100, -100, *row[3:]], [-100] * 6 + row[6:], [-100] * 8):
        assert locate(tiny, [row], labels=[labels]) == ({0: [11, 12]}, [])


def test_labels_of_another_shape_and_images_of_many_tokens(tiny):
    image = tiny.config.image_token_id
    assert locate(tiny, [[image, 7, 8, image, 11, 12]], labels=[[12]]) == ({0: [11, 12]}, [])


def test_ids_between_all_tokens_of_an_image_are_no_words(tiny):
    image, table = tiny.config.image_token_id, tiny.get_input_embeddings().weight
    ids = torch.tensor([[image, 7, image, 8, image, 11]])
    item = make_visual_input("image", 0, torch.tensor([0, 2, 4]), 0, torch.zeros(3, table.shape[1]))
    questions, _ = locate_questions(tiny, LLAVA, {"input_ids": ids}, torch.ones_like(ids), [item])
    assert torch.equal(questions[0], table[[11]])


def test_labels_show_the_answer_where_no_turn_does(tiny):
    image = tiny.config.image_token_id
    row = [image, image, 11, 12, 13]
    answer = [-100, -100, -100, -100, 13]
    assert locate(tiny, [row], labels=[answer]) == ({0: [11, 12]}, [])
    assert locate(tiny, [row], labels=[row]) == ({0: [11, 12, 13]}, [LABELLED])
    assert locate(tiny, [row], labels=[[-100] * 5]) == ({0: [11, 12, 13]}, [])
    assert locate(tiny, [row, row], labels=[answer, [-100] * 5]) == ({0: [11, 12], 1: [11, 12, 13]}, [])
    del vars(tiny)[LEARNED]
    assert locate(tiny, [row], labels=[answer]) == ({0: [11, 12]}, [NO_TURNS])
    assert locate(tiny, [row], labels=[row]) == ({0: [11, 12, 13]}, [LABELLED])


def test_a_template_of_the_model_comes_before_its_configurations(tiny):
    tiny.config.foveate_template = {"roles": [[[30]], [[31]]]}
    vars(tiny)[LEARNED] = ROLES
    assert read_template(tiny, LLAVA).roles == (((20,),), ((21,),))
    assert tiny.config.foveate_template["roles"][0] == [[30]]
    del vars(tiny)[LEARNED]
    assert read_template(tiny, LLAVA).roles == (((30,),), ((31,),))
    tiny.generation_config.eos_token_id = [33, 34]
    assert {33, 34} <= read_template(tiny, LLAVA).closers
    tokenizer = vicuna_tokenizer()
    learn_template(tiny, tokenizer)
    assert read_template(tiny, LLAVA) == read_chat_template(tokenizer)


def test_a_model_without_shared_space_is_noted():
    family = lookup.family("mllama")
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(1, 5)])
    item = make_visual_input("image", 0, torch.tensor([], dtype=torch.long), 1, torch.ones(3, 8))
    questions, notes = locate_questions(model, family, inputs, inputs["attention_mask"], [item])
    assert (questions[0].shape, notes) == ((0, 8), [NO_SHARED_SPACE])
    vars(model)[WARNED] = set()
    with pytest.warns(FoveateWarning, match="share no space"):
        report = foveate.prune_inputs(model, inputs, keep=0.5).report
    assert NO_SHARED_SPACE in report.notes
    foveate.prune_inputs(model, inputs, keep=0.5)  # no second warning


def test_a_warning_is_given_once_for_a_model_and_a_message(tiny, recwarn):
    warnings.simplefilter("default")
    other = make_tiny_model(LLAVA)
    del vars(other)[WARNED]
    for model in (tiny, tiny, other):
        warn_once(model, ["One.", "Two.", "One."])
        warn_once(model, [])
    warn_once(other, ["Three.", "Two."])
    assert [str(warning.message) for warning in recwarn] == ["One.", "Two.", "One.", "Two.", "Three."]
    assert {warning.category for warning in recwarn} == {FoveateWarning}


def test_only_methods_that_read_the_question_warn(tiny):
    del vars(tiny)[LEARNED]
    inputs = make_batch(tiny, LLAVA, [(1, 5)])
    assert foveate.prune_inputs(tiny, inputs, keep=3, method="divprune").report.notes == ()
    with pytest.warns(FoveateWarning, match="learn_template"):
        report = foveate.prune_inputs(tiny, inputs, keep=3).report
    assert report.notes == (NO_TURNS,)

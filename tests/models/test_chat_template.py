"""Who speaks where in a prompt of a chat template that was read before."""

import re

import pytest

from foveate.models.chat_template import (
    MERGED,
    OTHER,
    PREAMBLE,
    SPECIAL,
    UNLEARNED,
    UNMARKED,
    USER,
    ChatTemplate,
    SpelledRow,
    spell,
)
from foveate.models.turns import Turn
from templates import QWEN3_TEMPLATE, QWEN_SPECIALS, qwen_tokenizer, vicuna_tokenizer

TOKENIZER = qwen_tokenizer(QWEN3_TEMPLATE)  # a token for every character but the names of the roles
SPECIAL_IDS = TOKENIZER.convert_tokens_to_ids(QWEN_SPECIALS)
SHORT = {"<S>": "<|im_start|>", "<E>": "<|im_end|>", "<[>": "<|vision_start|>", "<]>": "<|vision_end|>",
         "<I>": "<|image_pad|>", "<X>": "<|box_start|>"}  # fmt: skip
OPENINGS = {"<S>user\n": USER, "<S>assistant\n": OTHER}


def to_ids(text):
    for short, token in SHORT.items():
        text = text.replace(short, token)
    return TOKENIZER(text, add_special_tokens=False).input_ids


def to_spelling(text):
    return "".join(spell(TOKENIZER, SPECIAL_IDS, to_ids(text)))


def make_template(openings=OPENINGS, endings=("<E>",), resumes=(), separator="", lead="", **more):
    return ChatTemplate(
        TOKENIZER, SPECIAL_IDS, {to_spelling(text): role for text, role in openings.items()},
        [*map(to_spelling, endings)], {to_spelling(text): to_spelling(mark) for text, mark in dict(resumes).items()},
        separator=to_spelling(separator), lead=to_spelling(lead), **more,
    )  # fmt: skip


def split(template, text, ignored=()):
    """The dialog, and each of its turns as: does the user speak, from where to where, and its words."""
    ids = to_ids(text)
    image = TOKENIZER.convert_tokens_to_ids("<|image_pad|>")
    first = ids.index(image) if image in ids else 0
    dialog = template.split(ids, first, [column in ignored for column in range(len(ids))])
    say = {True: USER, False: OTHER}
    return dialog, [(say[t.is_user], t.start, t.end, TOKENIZER.decode([ids[c] for c in t.words])) for t in dialog.turns]


def find_user(template, text):
    """What the user says, each turn by itself, and the doubt."""
    dialog, turns = split(template, text)
    return [words for role, _, _, words in turns if role == USER], dialog.doubt


# -- turns -------------------------------------------------------------------------------------------------------------


def test_turns_reach_from_mark_to_mark():
    dialog, turns = split(make_template(), "<S>user\n<I>Hi, you<E>\n<S>assistant\nYo<E>\n<S>user\nWhy?")
    assert turns == [(USER, 3, 11, "Hi,you"), (OTHER, 16, 18, "Yo"), (USER, 23, 27, "Why?")]
    assert (dialog.doubt, dialog.is_whole) == ("", False)
    assert dialog.turns[0].words == [4, 5, 6, 8, 9, 10]  # a blank is no word


def test_ignored_columns_hold_no_words():
    assert split(make_template(), "<S>user\nHi<E>", ignored=[3])[1] == [(USER, 3, 5, "i")]


def test_words_before_the_first_turn_and_after_an_end_are_nobodys():
    turns = split(make_template(), "One<E>two<S>user\nHi<E>three<E>four<S>assistant\nfive<S>user\nsix")[1]
    assert [(role, words) for role, _, _, words in turns] == [(USER, "Hi"), (OTHER, "five"), (USER, "six")]


def test_an_opening_ends_the_turn_before_it():
    turns = split(make_template(), "<S>user\nHi<S>user\nyou<S>assistant\nYo")[1]
    assert turns == [(USER, 3, 5, "Hi"), (USER, 8, 11, "you"), (OTHER, 14, 16, "Yo")]


def test_the_longest_mark_counts():
    openings = {"<S>": OTHER, "<S>user": USER, "<S>user\n": OTHER}
    turns = split(make_template(openings), "<S>user\nHi<S>userme<S>you")[1]
    assert [(role, words) for role, _, _, words in turns] == [(OTHER, "Hi"), (USER, "me"), (OTHER, "you")]


def test_a_mark_is_text_and_no_pattern():
    turns = split(make_template({"(user.)": USER}, endings=["[E]"]), "(user.)Hi[E](user!)you[E]")[1]
    assert turns == [(USER, 4, 6, "Hi")]


def test_a_prompt_without_a_turn_of_the_user_is_whole():
    dialog, turns = split(make_template(), "Who?<S>assistant\nHi<E>")
    assert turns == [(USER, 0, 10, "Who?assistantHi")]
    assert (dialog.doubt, dialog.is_whole) == (UNLEARNED, True)


# -- the words of the system in the user's turn ------------------------------------------------------------------------


def test_the_user_resumes_behind_the_last_mark():
    template = make_template(resumes={"<S>user\n": "<X>"})
    text = "<S>user\nBe brief.<X>Never lie.<X>Who?<E>"
    assert split(template, text)[1] == [(USER, 24, 28, "Who?")]
    assert split(template, "<S>user\nWho?<E>a<X>b<E>")[1] == [(USER, 3, 7, "Who?")]
    assert split(template, "a<X>b<S>user\nWho?<E>")[1] == [(USER, 6, 10, "Who?")]
    assert split(template, "<S>user\n<X>Who?<E>")[1] == [(USER, 4, 8, "Who?")]


def test_a_preamble_without_its_mark_is_no_turn_of_the_user():
    openings = {**OPENINGS, "<S>system\n": PREAMBLE}
    text = "<S>system\nBe brief.<X>Who?<E><S>user\nWhy?<E>"
    assert find_user(make_template(openings), text) == (["Why?"], "")
    assert find_user(make_template(openings, resumes={"<S>system\n": "<X>"}), text) == (["Who?", "Why?"], "")
    assert [role for role, *_ in split(make_template(openings), text)[1]] == [USER]


@pytest.mark.parametrize(
    ("turn", "words", "doubt"),
    [
        ("Be brief.\n\n<I>Who?", "Who?", ""),
        ("Be brief.\n\n<[><I><]>Who?", "Who?", ""),
        ("Be brief.\n\nNever lie.\n\n<I>Who?\n\nNow.", "Who?Now.", ""),
        ("Be brief.\n\n<I>A.\n\n<I>Who?", "Who?", ""),
        ("Look: <I>Who?", "Look:Who?", ""),
        ("<[><I><]>Who?\n\nNow.", "Who?Now.", ""),
        (" <I>Who?\n\nNow.", "Who?Now.", ""),
        ("<I>A.\n\nAnd: <I>Who?", "A.And:Who?", ""),
        ("Look: <I>Who?\n\n", "Look:Who?", ""),
        ("Be brief.\n\nLook: <I>Who?", "Bebrief.Look:Who?", MERGED),
        ("Look: <I>Who?\n\nNow.", "Look:Who?Now.", MERGED),
    ],
)
@pytest.mark.parametrize("merged", ["first", "last"])
def test_the_systems_words_end_at_a_blank_line_before_an_image(merged, turn, words, doubt):
    template = make_template(merged=merged, separator="\n\n")
    assert find_user(template, f"<S>user\n{turn}<E>") == ([words], doubt)


def test_the_systems_words_stand_in_the_first_turn_or_the_last():
    first, last = (make_template(merged=merged, separator="\n\n") for merged in ("first", "last"))
    text = "<S>user\n{}<E><S>user\n{}<E>"
    clear = text.format("Hi.\n\n<I>Who?", "Yo.\n\n<I>Why?")
    assert find_user(first, clear) == (["Who?", "Yo.Why?"], "")
    assert find_user(last, clear) == (["Hi.Who?", "Why?"], "")
    unclear = text.format("Hi.\n\nSo: <I>Who?", "Yo.\n\nSo: <I>Why?")
    assert find_user(first, unclear) == (["Hi.So:Who?", "Yo.So:Why?"], "")  # the question is the last turn
    assert find_user(last, unclear) == (["Hi.So:Who?", "Yo.So:Why?"], MERGED)


def test_the_lines_of_the_processor_before_an_image_are_not_the_systems_end():
    template = make_template(merged="first", separator="\n\n", lead="\n")
    assert find_user(template, "<S>user\nBe brief.\n\n\n<I>Who?<E>") == (["Who?"], "")
    assert find_user(template, "<S>user\nBe brief.\n\n<I>Who?<E>") == (["Bebrief.Who?"], MERGED)


def test_an_image_that_the_vocabulary_does_not_know_ends_nothing():
    template = make_template(merged="first", separator="\n\n")
    ids = to_ids("<S>user\nBe brief.\n\n<X>Who?<E>")
    ids[ids.index(TOKENIZER.convert_tokens_to_ids("<|box_start|>"))] = 10**6
    dialog = template.split(ids, ids.index(10**6), [False] * len(ids))
    assert dialog.doubt == MERGED
    assert TOKENIZER.decode([ids[column] for column in dialog.find_question()]) == "Bebrief.Who?"


# -- doubts and inserts ------------------------------------------------------------------------------------------------


def test_results_of_tools_that_look_like_turns_of_the_user_leave_a_doubt():
    template = make_template(has_unmarked_results=True)
    assert find_user(template, "<S>user\nWho?<E><S>assistant\nHi<E>") == (["Who?"], "")
    assert find_user(template, "<S>user\nWho?<E><S>user\nWhy?<E>") == (["Who?", "Why?"], UNMARKED)
    merged = make_template(has_unmarked_results=True, merged="last", separator="\n\n")
    assert find_user(merged, "<S>user\nWho?<E><S>user\nHi.\n\n<I>Why?<E>") == (["Who?", "Why?"], UNMARKED)
    assert find_user(merged, "<S>user\nWho?<E><S>user\nHi.\n\nSo: <I>Why?<E>")[1] == MERGED


def test_words_that_the_template_writes_are_blank():
    template = make_template(inserts=[r"No\.\d+:", r"\(end\)"])
    assert find_user(template, "<S>user\nNo.12:<I>(end)Who is No.?<E>") == (["WhoisNo.?"], "")


# -- spelling ----------------------------------------------------------------------------------------------------------


def test_tokens_as_the_vocabulary_spells_them():
    pieces = spell(TOKENIZER, SPECIAL_IDS, [*to_ids("a user\n<S><E>"), 10**6])
    assert pieces == ["a", "\u0120", "user", "\u010a", chr(SPECIAL + 1), chr(SPECIAL + 2), ""]
    assert spell(vicuna_tokenizer(), [2, 1], [11889, 1, 2, 29871]) == ["USER", chr(SPECIAL + 1), chr(SPECIAL), "\u2581"]


def test_the_line_end_of_byte_fallback_is_one():
    tokenizer = qwen_tokenizer(QWEN3_TEMPLATE)
    tokenizer.add_tokens(["<0x0A>"])
    assert spell(tokenizer, [], tokenizer.convert_tokens_to_ids(["a", "<0x0A>"])) == ["a", "\n"]


def test_a_turn_may_begin_and_end_inside_a_token():
    row = SpelledRow(["ab", "cd", " ", "ef", chr(SPECIAL), "g\u2581"], [False] * 6, [])
    assert row.text == f"abcd ef{chr(SPECIAL)}g\u2581"
    assert row.read_turn(True, 1, 6) == Turn(0, 4, True, [0, 1, 3])
    assert row.read_turn(False, 2, 7) == Turn(1, 4, False, [1, 3])
    assert row.read_turn(True, 4, 10) == Turn(2, 6, True, [3, 5])
    assert row.read_turn(True, 9, 10) == Turn(5, 6, True, [])  # the blank alone


@pytest.mark.parametrize("text", ["<0.3 seconds>", "00:07 ", "Here is the original image "])
def test_labels_are_blank_before_a_special_token_alone(text):
    before, elsewhere = (SpelledRow([text, end], [False] * 2, []).text for end in (chr(SPECIAL), "a"))
    assert re.fullmatch(f" {{{len(text)}}}{chr(SPECIAL)}", before)
    assert elsewhere == f"{text}a"

"""Which text tokens rate which image, against plain loops over the prompt."""

import pytest
import torch

from foveate import FastV, PyramidDrop, SparseVLM
from foveate.conformance.batches import make_tiny_model
from foveate.errors import FoveateWarning, InputError
from foveate.hooks.prompt import Prompt, count_answer_tokens, rate_images
from foveate.method.in_decoder import DecoderMethod
from foveate.models import lookup
from foveate.models.framing import NO_TURNS
from foveate.models.visual_input import tile_frames
from foveate.pipeline.question import LEARNED, WARNED, read_template

IMAGE = -1  # in the rows below; other numbers are words
ROWS = [
    [0, 0, 11, IMAGE, IMAGE, IMAGE, 12, 13, IMAGE, IMAGE, 14, 15, 16, 17],
    [21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34],
    [41, IMAGE, IMAGE, IMAGE, IMAGE, 42, 43, 44, 45, 46, 0, 0, 0, 0],  # padded on the right
]
SIZES = [3, 2, 4]
COLUMNS = [(0, [3, 4, 5]), (0, [8, 9]), (2, [1, 2, 3, 4])]
LAST = {0: 13, 2: 9}


@pytest.fixture(scope="module")
def family():
    return lookup.family("llava")


@pytest.fixture(scope="module")
def model(family):
    return make_tiny_model(family)


class EveryWord(SparseVLM):
    """All words of the question rate."""

    raters = DecoderMethod.raters


def prompt(model, rows=ROWS, sizes=SIZES, grids=None, seed=3):
    ids = torch.tensor(rows)
    visual, mask = ids == IMAGE, (ids != 0).long()
    width = model.get_input_embeddings().weight.shape[1]
    features = list(torch.randn(sum(sizes), width, generator=torch.Generator().manual_seed(seed)).split(sizes))
    ids = ids.masked_fill(visual, model.config.image_token_id)
    return Prompt(ids, mask, visual, features, grids or [None] * len(sizes))


def rate(model, family, method, made, answer=0):
    images, notes = rate_images(model, family, method, made, answer)
    return [image.raters.tolist() for image in images], notes


def slow_raters(model, made, number, end):
    """The words behind an image whose mean cosine to its tokens is not below that of all of them."""
    row, columns = COLUMNS[number]
    words = [column for column in range(columns[-1] + 1, end + 1) if ROWS[row][column] > 0]
    table, fit = model.get_input_embeddings().weight.detach(), []
    for column in words:
        cosines = [torch.cosine_similarity(table[ROWS[row][column]], v, dim=0) for v in made.features[number]]
        fit.append(float(sum(cosines) / len(cosines)))
    return [column for column, value in zip(words, fit, strict=True) if value >= sum(fit) / len(fit) - 1e-6]


@pytest.mark.parametrize("method", [FastV(), PyramidDrop()], ids=lambda method: method.name)
def test_the_last_token_of_the_prompt_rates_every_image(model, family, method):
    assert rate(model, family, method, prompt(model)) == ([[13], [13], [9]], [])
    for answer in (1, 2, 3):
        cut = [row[:-4] if n == 2 else row for n, row in enumerate(ROWS)]
        cut[2] = [0] * 4 + cut[2]  # padded on the left: the answer is at the end of every row
        made = prompt(model, cut)
        assert rate(model, family, method, made, answer) == ([[13 - answer]] * 3, [])


def test_the_words_behind_an_image_that_fit_it_rate_it(model, family):
    made = prompt(model)
    expected = [slow_raters(model, made, n, LAST[row]) for n, (row, _) in enumerate(COLUMNS)]
    assert rate(model, family, SparseVLM(), made) == (expected, [])
    assert any(len(raters) > 1 for raters in expected)
    assert all(column not in (6, 7) for column in expected[1])  # these words cannot see the second image
    answered = [slow_raters(model, made, n, 11) if row == 0 else [] for n, (row, _) in enumerate(COLUMNS)]
    only_row = prompt(model, ROWS[:2], SIZES[:2])
    assert rate(model, family, SparseVLM(), only_row, 2) == (answered[:2], [])


def test_words_are_rounded_to_the_type_of_the_features(model, family):
    rows = [[1, IMAGE, IMAGE, *range(2, 250)]]
    table = model.get_input_embeddings().weight.detach()
    for seed in range(16):
        made = prompt(model, rows, [2], seed=seed)
        half = Prompt(made.ids, made.mask, made.visual, [f.bfloat16() for f in made.features], made.grids)
        fit = SparseVLM().raters(half.features[0], table[made.ids[0, 3:]].bfloat16())
        assert rate(model, family, SparseVLM(), half)[0] == [(fit + 3).tolist()]


@pytest.fixture
def chatty(model, monkeypatch):
    """The model, of which it is not known that its prompts have no template, and which has not warned yet."""
    monkeypatch.delattr(model, LEARNED)
    monkeypatch.setattr(model, WARNED, set())
    return model


def test_a_question_is_the_last_turn_of_the_role_that_sent_the_first_image(chatty, family):
    model = chatty
    template = read_template(model, family)
    controls = filter(template.is_control, range(model.config.get_text_config().vocab_size))
    control = next(token for token in controls if token not in template.closers | template.structure)
    user, other = [control, 71, 72], [control, 81, 82]
    rows = [[*user, IMAGE, 40, *other, IMAGE, 41, *user, 50, 51, *other, 60]]
    made = prompt(model, rows, [1, 1])
    with pytest.warns(FoveateWarning, match="roles in a prompt"):  # no turn has an end
        images, _ = rate(model, family, EveryWord(), made)
    for raters in images:
        assert {rows[0][column] for column in raters} & {40, 41, 50, 51, 60} == {50, 51}


def test_what_makes_a_question_uncertain_is_noted_once_and_warned_of_once(chatty, family):
    made = prompt(chatty)  # three images, and no turn
    with pytest.warns(FoveateWarning) as warned:
        _, notes = rate(chatty, family, EveryWord(), made)
    assert notes == [NO_TURNS] == [str(warning.message) for warning in warned]
    assert rate(chatty, family, EveryWord(), made)[1] == [NO_TURNS]  # a report has it each time
    assert rate(chatty, family, FastV(), made)[1] == []  # it reads no question


def test_words_between_the_tokens_of_an_image_do_not_rate_it(model, family):
    rows = [[11, IMAGE, IMAGE, 12, IMAGE, 13, IMAGE, 14, 15]]
    assert rate(model, family, EveryWord(), prompt(model, rows, [3, 1])) == ([[5, 7, 8], [7, 8]], [])
    assert rate(model, family, EveryWord(), prompt(model, rows, [4])) == ([[7, 8]], [])


def test_without_a_question_the_last_token_rates_and_a_note_says_so(model, family, monkeypatch):
    monkeypatch.setattr(model, WARNED, set())
    control = max(read_template(model, family).controls)
    rows = [[11, 12, IMAGE, IMAGE, control], [21, IMAGE, IMAGE, 22, 23]]
    with pytest.warns(FoveateWarning, match="No question follows image 0"):
        raters, notes = rate(model, family, SparseVLM(), prompt(model, rows, [2, 2]))
    assert raters[0] == [4]
    assert notes == ["No question follows image 0: the prompt's last token alone rated its tokens."]
    rows = [[21, IMAGE, IMAGE, 22, 23], [11, 12, IMAGE, IMAGE, control]]
    with pytest.warns(FoveateWarning, match="No question follows image 1"):
        raters, notes = rate(model, family, SparseVLM(), prompt(model, rows, [2, 2]))
    assert raters[1] == [4]
    assert notes == ["No question follows image 1: the prompt's last token alone rated its tokens."]
    assert rate(model, family, FastV(), prompt(model, rows, [2, 2])) == ([[4], [4]], [])  # it reads that token anyway


def test_a_question_of_one_word_is_a_question(model, family):
    made = prompt(model, [[41, IMAGE, IMAGE, 12]], [2])
    raters, notes = rate(model, family, EveryWord(), made)
    assert raters == [[3]]
    assert not [note for note in notes if "No question" in note]


def test_padding_inside_a_question_rates_nothing(model, family):
    made = prompt(model)
    made.mask[2, 7] = 0
    raters, _ = rate(model, family, SparseVLM(), made)
    assert 7 not in raters[2]


def test_an_image_without_text_behind_it_is_named(model, family):
    for method in (FastV(), SparseVLM()):
        for rows, number, answer in (
            ([[11, IMAGE, IMAGE, 12], [11, 12, IMAGE, IMAGE]], 1, 0), ([[11, IMAGE, IMAGE, 12]], 0, 1),
            ([[11, IMAGE, IMAGE, 0]], 0, 0), ([[11, IMAGE, IMAGE, 12, 13]], 0, 3),
            ([[11, IMAGE, 12, IMAGE, 13]], 0, 2),
        ):  # fmt: skip
            with pytest.raises(InputError) as error:
                rate_images(model, family, method, prompt(model, rows, [2] * (number + 1)), answer)
            expected = f"No text follows image {number}, and {method.name} reads its attention"
            assert str(error.value).startswith(expected)
        with pytest.raises(InputError, match="No text follows image 0"):  # the whole call is an answer
            rate_images(model, family, method, prompt(model, [[IMAGE, 12, 13]], [1]), 3)


def test_images_come_in_reading_order_without_their_tokens(model, family):
    grids = [(1, 1, 3), None, (1, 2, 2)]
    images, _ = rate_images(model, family, SparseVLM(), prompt(model, grids=grids), 0)
    for number, (image, (row, columns), grid) in enumerate(zip(images, COLUMNS, grids, strict=True)):
        item = image.item
        assert (item.modality, item.row, item.index, item.first) == ("image", row, number, columns[0])
        assert (item.columns.tolist(), item.total, item.grid) == (columns, len(columns), grid)
        assert item.tiles == (() if grid is None else tile_frames(grid))
        assert item.kept.tolist() == list(range(len(columns)))
        assert len(item.embeds) == 0
        assert not item.embeds.requires_grad
        assert not image.raters.requires_grad


def test_raters_are_made_on_the_device_of_the_prompt(model, family):
    made = prompt(model)
    for method in (FastV(), SparseVLM()):
        expected = rate(model, family, method, made)
        with torch.device("meta"):  # what is not made on the device of the inputs has no values
            assert rate(model, family, method, made) == expected


def test_the_tokens_behind_the_first_of_the_wanted_logits_are_an_answer():
    assert [count_answer_tokens(n) for n in (0, 1, 2, 5)] == [0, 0, 1, 4]
    for wanted in (torch.tensor([1, 2]), torch.tensor(3)):
        with pytest.raises(InputError, match="give an int"):
            count_answer_tokens(wanted)

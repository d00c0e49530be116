import pytest
import torch

from foveate.errors import InputError
from foveate.models.sequence import (
    ATTEND,
    complete_positions,
    cut_sequence as cut_by_layout,
    find_last_columns,
    lay_out,
)

IDS = torch.tensor([[9, 9, 1, 2, 3, 4], [5, 6, 7, 8, 1, 2]])
STAYS = torch.tensor([[0, 0, 1, 0, 1, 1], [1, 1, 0, 0, 1, 1]]).bool()
LEFT = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
POSITIONS = torch.tensor([[0, 0, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5]])


def cut_sequence(inputs, stays, positions, **settings):
    mask = inputs.get("attention_mask")
    return cut_by_layout(
        inputs, lay_out(torch.ones_like(stays) if mask is None else mask, stays), positions, **settings
    )


def test_rows_are_padded_left_with_positions_kept():
    out = cut_sequence({"input_ids": IDS, "attention_mask": LEFT}, STAYS, POSITIONS, pad_id=0)
    assert out["input_ids"].tolist() == [[0, 1, 3, 4], [5, 6, 1, 2]]
    assert out["attention_mask"].tolist() == [[0, 1, 1, 1], [1, 1, 1, 1]]
    assert out["position_ids"].tolist() == [[0, 0, 2, 3], [0, 1, 4, 5]]


def test_right_padding_stays_behind_the_last_dropped_token():
    stays = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 1, 1, 1], [1, 1, 1, 1, 1]]).bool()
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    ids = torch.tensor([[1, 2, 3, 9, 9], [3, 4, 5, 6, 7], [11, 12, 13, 14, 15]])
    positions = torch.arange(5).expand(3, -1)
    out = cut_sequence({"input_ids": ids, "attention_mask": mask, "labels": ids}, stays, positions, pad_id=0)
    assert out["input_ids"].tolist() == [[1, 2, 3, 0, 0], [0, 3, 5, 6, 7], [11, 12, 13, 14, 15]]
    # 3 was the first of its row, which nothing predicts
    assert out["labels"].tolist() == [[1, 2, 3, -100, -100], [-100, -100, 5, 6, 7], [11, 12, 13, 14, 15]]
    assert out["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [0, 1, 1, 1, 1], [1, 1, 1, 1, 1]]


def test_a_row_that_ends_before_the_last_dropped_token_is_padded_on_the_left():
    stays = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 1]]).bool()
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    ids = torch.tensor([[1, 2, 9, 9], [3, 4, 5, 6]])
    out = cut_sequence({"input_ids": ids, "attention_mask": mask}, stays, torch.arange(4).expand(2, -1), pad_id=0)
    assert out["input_ids"].tolist() == [[1, 2, 0], [0, 3, 6]]
    assert out["position_ids"].tolist() == [[0, 1, 0], [0, 0, 3]]


def test_nothing_moves_where_nothing_is_dropped():
    mask = torch.tensor([[0, 1, 1, 0], [1, 1, 1, 1]])
    ids = torch.tensor([[0, 2, 3, 0], [3, 4, 5, 6]])
    out = cut_sequence({"input_ids": ids, "attention_mask": mask}, mask.bool(), torch.arange(4).expand(2, -1), pad_id=0)
    assert torch.equal(out["input_ids"], ids)
    assert torch.equal(out["attention_mask"], mask)


def test_columns_are_found_where_they_are_the_same_in_all_rows():
    layout = lay_out(LEFT, STAYS)
    assert layout.find_columns(torch.tensor([4, 5])).tolist() == [2, 3]
    for column in (0, 2, 3):  # padding of a row, dropped in one, dropped in both
        with pytest.raises(InputError, match="logits_to_keep"):
            layout.find_columns(torch.tensor([column]))
    one = lay_out(LEFT[1:], STAYS[1:])
    assert one.find_columns(torch.tensor([1, 5, 0])).tolist() == [1, 3, 0]


@pytest.mark.parametrize("shape", [(6,), (1, 6), (2, 6), (3, 1, 6), (3, 2, 6), (4, 2, 6)])
def test_positions_of_the_caller_are_completed(shape):
    positions = torch.arange(6).expand(shape)
    whole = complete_positions(positions, LEFT)
    assert whole.shape == (4, 2, 6) if len(shape) == 3 else (2, 6)
    assert torch.equal(whole[-1], torch.arange(6).expand(2, -1) if len(shape) == 3 else torch.arange(6))
    if shape[0] == 3:
        assert torch.equal(whole[0], POSITIONS)


@pytest.mark.parametrize("shape", [(5,), (2, 7), (1, 3, 2, 6)])
def test_positions_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match="position_ids"):
        complete_positions(torch.zeros(shape), LEFT)


def test_compact_numbers_anew():
    out = cut_sequence({"input_ids": IDS, "attention_mask": LEFT}, STAYS, POSITIONS, pad_id=0, compact=True)
    assert out["position_ids"].tolist() == [[0, 0, 1, 2], [0, 1, 2, 3]]


@pytest.mark.parametrize("compact", [False, True])
def test_several_axes_are_cut_alike_and_the_text_row_has_no_gap(compact):
    axes = torch.stack([POSITIONS, POSITIONS + 10, POSITIONS + 20, POSITIONS + 30])
    out = cut_sequence({"input_ids": IDS, "attention_mask": LEFT}, STAYS, axes, pad_id=0, compact=compact)
    counted = [[0, 0, 1, 2], [0, 1, 2, 3]]
    assert out["position_ids"][0].tolist() == counted
    assert out["position_ids"][2].tolist() == (counted if compact else [[0, 20, 22, 23], [20, 21, 24, 25]])


def test_mask_of_a_gapped_unpadded_batch_survives_generate():
    out = cut_sequence({"input_ids": IDS[1:]}, STAYS[1:], POSITIONS[1:], pad_id=0)
    assert out["attention_mask"].tolist() == [[ATTEND] * 4]
    without_gap = cut_sequence({"input_ids": IDS[1:]}, torch.ones(1, 6).bool(), POSITIONS[1:], pad_id=0)
    assert without_gap["attention_mask"].tolist() == [[1] * 6]


def test_other_inputs_are_handed_on():
    out = cut_sequence({"input_ids": IDS, "use_cache": True, "labels": None}, STAYS, POSITIONS, pad_id=0)
    assert out["use_cache"] is True
    assert out["labels"] is None


def test_unknown_tensor_of_the_sequence_is_refused():
    with pytest.raises(InputError, match="sentiment"):
        cut_sequence({"input_ids": IDS, "sentiment": torch.ones(2, 6)}, STAYS, POSITIONS, pad_id=0)


def test_nothing_is_changed_in_place():
    inputs = {"input_ids": IDS.clone(), "attention_mask": LEFT.clone()}
    cut_sequence(inputs, STAYS, POSITIONS, pad_id=0)
    assert torch.equal(inputs["input_ids"], IDS)
    assert torch.equal(inputs["attention_mask"], LEFT)


def test_scores_of_next_tokens_go_back_to_where_the_tokens_stood():
    layout = lay_out(LEFT, STAYS)
    scores = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])  # of the last three of [0, 1, 3, 4] and [5, 6, 1, 2]
    assert layout.restore(scores).tolist() == [[0, 1, 0, 2, 3], [4, 0, 0, 5, 6]]


def test_nothing_dropped_ends_nowhere():
    assert lay_out(LEFT, LEFT.bool()).end == 0
    assert lay_out(LEFT, STAYS).end == 4


def test_a_column_before_the_last_dropped_token_may_stand_beside_padding():
    """The second row ends in padding; only columns before the last dropped token must be there in all rows."""
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
    layout = lay_out(mask, torch.tensor([[1, 1, 0, 1, 1], [1, 1, 0, 1, 0]]).bool())
    assert layout.find_columns(torch.tensor([0, 1, 4])).tolist() == [0, 1, 3]
    assert layout.find_columns(torch.tensor([3])).tolist() == [2]
    with pytest.raises(InputError, match="logits_to_keep"):
        layout.find_columns(torch.tensor([4, 2, 0]))


def test_the_column_behind_the_last_dropped_token_may_be_padding_of_a_row():
    layout = lay_out(torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]), torch.tensor([[1, 1, 0, 1], [1, 1, 0, 0]]).bool())
    assert layout.find_columns(torch.tensor([3])).tolist() == [2]


def test_token_types_are_0_on_padding():
    types = torch.tensor([[1, 1, 1, 2, 2, 2], [2, 2, 2, 1, 1, 1]])
    out = cut_sequence(
        {"input_ids": IDS, "attention_mask": LEFT, "mm_token_type_ids": types}, STAYS, POSITIONS, pad_id=0
    )
    assert out["mm_token_type_ids"].tolist() == [[0, 1, 2, 2], [2, 2, 1, 1]]


def test_position_ids_of_the_caller_are_replaced():
    inputs = {"input_ids": IDS, "attention_mask": LEFT, "position_ids": 100 + POSITIONS}
    assert cut_sequence(inputs, STAYS, POSITIONS, pad_id=0)["position_ids"].tolist() == [[0, 0, 2, 3], [0, 1, 4, 5]]


def test_unknown_rows_of_the_sequence_are_refused():
    with pytest.raises(InputError, match="words has the prompt's shape"):
        cut_sequence({"input_ids": IDS, "words": torch.zeros(2, 6, 3)}, STAYS, POSITIONS, pad_id=0)


def test_last_column_of_a_row_of_padding():
    assert find_last_columns(torch.tensor([[0, 1, 1, 0], [0, 0, 0, 0], [2, 0, 0, 0]])).tolist() == [2, -1, 0]

import pytest
import torch

from foveate.errors import InputError
from foveate.models.sequence import ATTEND, cut_sequence

IDS = torch.tensor([[9, 9, 1, 2, 3, 4], [5, 6, 7, 8, 1, 2]])
STAYS = torch.tensor([[0, 0, 1, 0, 1, 1], [1, 1, 0, 0, 1, 1]]).bool()
LEFT = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
POSITIONS = torch.tensor([[0, 0, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5]])


def test_rows_are_padded_left_with_positions_kept():
    out = cut_sequence({"input_ids": IDS, "attention_mask": LEFT}, STAYS, POSITIONS, pad_id=0)
    assert out["input_ids"].tolist() == [[0, 1, 3, 4], [5, 6, 1, 2]]
    assert out["attention_mask"].tolist() == [[0, 1, 1, 1], [1, 1, 1, 1]]
    assert out["position_ids"].tolist() == [[0, 0, 2, 3], [0, 1, 4, 5]]


def test_right_padding_stays_on_the_right():
    stays = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 1]]).bool()
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    ids = torch.tensor([[1, 2, 9, 9], [3, 4, 5, 6]])
    positions = torch.arange(4).expand(2, -1)
    out = cut_sequence({"input_ids": ids, "attention_mask": mask, "labels": ids}, stays, positions, pad_id=0)
    assert out["input_ids"].tolist() == [[1, 2, 0], [3, 5, 6]]
    assert out["labels"].tolist() == [[1, 2, -100], [3, 5, 6]]
    assert out["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]


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

"""What a layer holds of a prompt, against plain loops over rows and places."""

import random

import pytest
import torch

from foveate.errors import InputError
from foveate.hooks.slots import Slots


def batches(count=60):
    """(mask, stays) of batches whose rows keep different numbers of tokens."""
    draw = random.Random(3)
    for _ in range(count):
        rows, length = draw.randint(1, 4), draw.randint(2, 9)
        mask = [[0] * (padding := draw.randint(0, length - 1)) + [1] * (length - padding) for _ in range(rows)]
        stays = [[bool(value and draw.random() < 0.6) for value in row] for row in mask]
        for row in stays:
            row[-1] = True
        yield torch.tensor(mask), torch.tensor(stays)


def places_of(stays):
    """The places of every row that stay."""
    return [[place for place, stay in enumerate(row) if stay] for row in stays.tolist()]


def test_the_whole_prompt_is_every_place_in_order():
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    slots = Slots.make_whole(mask)
    assert (slots.layer, slots.length) == (0, 4)
    assert slots.places.tolist() == [[0, 1, 2, 3]] * 2
    assert slots.real.dtype == torch.bool
    assert slots.real.tolist() == mask.bool().tolist()
    with torch.device("meta"):  # what is not made on the device of the mask has no values
        assert Slots.make_whole(mask).places.tolist() == [[0, 1, 2, 3]] * 2


def test_kept_places_are_in_order_behind_distinct_padding():
    for _, stays in batches():
        slots = Slots.make_kept(5, stays)
        width = max(map(len, places_of(stays)))
        assert (slots.layer, slots.length) == (5, stays.shape[1])
        assert slots.places.shape == slots.real.shape == (len(stays), width)
        for places, real, own in zip(slots.places.tolist(), slots.real.tolist(), places_of(stays), strict=True):
            assert real == [False] * (width - len(own)) + [True] * len(own)
            assert places[width - len(own) :] == own
            assert len(set(places)) == width


def test_tensors_are_cut_to_the_kept_places_and_scattered_back():
    for mask, stays in batches():
        rows, length = stays.shape
        states = torch.randn(rows, length, 3) + 9  # no zero among them
        slots = Slots.make_kept(2, stays)
        cut = slots.cut(states)
        assert cut.shape == (rows, slots.places.shape[1], 3)
        back = slots.scatter(cut)
        assert back.shape == states.shape
        shared = slots.cut(states[:1])  # such as the rotary embedding, one for all rows
        for row, own in enumerate(places_of(stays)):
            real = slots.real[row]
            assert torch.equal(cut[row, real], states[row, own])
            assert torch.equal(shared[row, real], states[0, own])
            assert torch.equal(back[row, own], states[row, own])
            padding = slots.places[row, ~real].tolist()
            dropped = [place for place in range(length) if place not in own + padding]
            assert not back[row, dropped].any()
        whole = Slots.make_whole(mask)
        assert torch.equal(whole.cut(states), states)
        assert torch.equal(whole.scatter(states), states)


def test_scattered_states_keep_their_type():
    slots = Slots.make_kept(2, torch.tensor([[True, False, True]]))
    assert slots.scatter(torch.ones(1, 2, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_slots_of_places_are_where_the_row_holds_them():
    for _, stays in batches():
        slots = Slots.make_kept(1, stays)
        for row, own in enumerate(places_of(stays)):
            expected = [slots.places[row].tolist().index(place) for place in own]
            assert slots.find_slots(row, torch.tensor(own)).tolist() == expected
            order = own[::-1]
            assert slots.find_slots(row, torch.tensor(order)).tolist() == expected[::-1]
            missing = [n for n in range(stays.shape[1]) if n not in slots.places[row].tolist()]
            assert slots.find_slots(row, torch.tensor(missing, dtype=torch.long)).tolist() == [-1] * len(missing)
            with torch.device("meta"):
                assert slots.find_slots(row, slots.places[row]).tolist() == list(range(slots.places.shape[1]))


def test_rows_are_selected_with_what_they_hold():
    """As beams take rows over from each other."""
    for _, stays in batches():
        slots, order = Slots.make_kept(3, stays), [len(stays) - 1, 0, len(stays) - 1]
        taken = slots.select(torch.tensor(order))
        assert (taken.layer, taken.length) == (3, stays.shape[1])
        assert taken.places.tolist() == [slots.places[row].tolist() for row in order]
        assert taken.real.tolist() == [slots.real[row].tolist() for row in order]


def test_an_answer_is_dropped_from_rows_that_all_hold_it():
    for _, stays in batches():
        length = stays.shape[1]
        for answer in range(length):
            slots = Slots.make_kept(3, stays)
            without = slots.drop_answer(answer)
            if answer and all(set(range(length - answer, length)) <= set(own) for own in places_of(stays)):
                assert (without.layer, without.length) == (3, length - answer)
                kept = [[place for place in own if place < length - answer] for own in places_of(stays)]
                rows = zip(without.places, without.real, strict=True)
                assert [places[real].tolist() for places, real in rows] == kept
            else:
                assert without is slots


def test_a_mask_is_the_prompts_and_what_came_after_it():
    stays = torch.tensor([[True, False, True, True], [False, False, True, True], [True, True, True, True]])
    slots = Slots.make_kept(2, stays)
    real = slots.real.tolist()
    assert slots.make_mask(4, None).tolist() == real
    mask = slots.make_mask(6, None)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[*row, True, True] for row in real]
    caller = torch.tensor([[0, 0, 0, 0, 1, 0], [1, 1, 1, 1, 0, 2], [1, 1, 1, 1, 1, 1]])  # its prompt is not read
    mask = slots.make_mask(6, caller)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [row + tail for row, tail in zip(real, caller[:, 4:].bool().tolist(), strict=True)]
    assert slots.make_mask(4, caller[:, :4]).tolist() == real
    narrow = Slots.make_kept(2, torch.tensor([[True, False, True, True], [False, False, False, True]]))
    assert narrow.make_mask(5, torch.ones(2, 6)).tolist() == [[True] * 5, [False, False, True, True, True]]


def test_masks_and_caches_that_do_not_fit_are_refused():
    slots = Slots.make_kept(2, torch.tensor([[True, False, True, True]] * 2))
    with pytest.raises(InputError, match="cut back into the pruned prompt"):
        slots.make_mask(2, None)
    for shape in ((2, 5), (2, 7), (1, 6), (3, 6), (2, 2)):
        with pytest.raises(InputError, match=r"has shape .*, but the cached prompt and the new tokens are \(2, 6\)"):
            slots.make_mask(5, torch.ones(shape))

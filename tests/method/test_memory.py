"""What is remembered of a stream: the newest frame whole, of older ones what has changed, within limits."""

import pytest
import torch

from foveate.errors import FoveateError, InputError, KeepError
from foveate.method.memory import RECENT, StreamSettings, TokenMemory

N, D = 16, 32


def frame_of(seed, n=N):
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


def remember(shown, *, grid=(1, 4, 4), **settings):
    memory = TokenMemory(StreamSettings(**settings), 0.98)
    for number, embeds in enumerate(shown):
        memory.add(number, {"embeds": embeds, "deep": embeds * 2}, grid, is_same_view=True)
        check_memory(memory)
    return memory


def check_memory(memory):
    assert memory.count == sum(len(each.indices) for each in memory.frames) <= memory.settings.tokens
    assert len(memory.frames) <= memory.settings.frames
    assert [each.frame for each in memory.frames] == sorted(each.frame for each in memory.frames)
    for each in memory.frames:
        assert bool((each.indices.diff() > 0).all())
        assert len(each.indices) == len(each.likeness) > 0
        assert torch.equal(each.rows["deep"], each.rows["embeds"] * 2)
    assert torch.equal(memory.frames[-1].indices, torch.arange(len(memory.frames[-1].indices)))


def test_equal_frames_cost_nothing():
    memory = remember([frame_of(0)] * 20)
    assert (memory.count, [each.frame for each in memory.frames]) == (N, [19])


def test_an_older_frame_holds_what_has_changed_since():
    """Three places change, then one of them again; all rows are those of their own frame."""
    first = frame_of(0)
    second, third = first.clone(), first.clone()
    second[[1, 5, 9]] = frame_of(1)[[1, 5, 9]]
    third[[1, 5, 9]] = second[[1, 5, 9]]
    third[5] = frame_of(2)[5]
    memory = remember([first, second, third])
    assert [each.indices.tolist() for each in memory.frames] == [[1, 5, 9], [5], [*range(N)]]
    for each, whole in zip(memory.frames, (first, second, third), strict=True):
        assert torch.equal(each.rows["embeds"], whole[each.indices])


def test_a_slow_drift_is_a_change_in_the_end():
    """Each frame is near to the one before; the first and the last are not alike."""
    one, other = frame_of(0), frame_of(1)
    frames = [torch.lerp(one, other, step / 30) for step in range(31)]
    memory = remember(frames, detail=1.0)
    assert 1 < len(memory.frames) < 31


def test_a_frame_that_is_no_longer_the_newest_is_thinned_out():
    memory = remember([frame_of(n) for n in range(3)], detail=0.25)
    assert [len(each.indices) for each in memory.frames] == [4, 4, N]


def test_without_a_grid_and_with_other_sizes():
    memory = TokenMemory(StreamSettings(), 0.98)
    for number, (size, same) in enumerate([(N, True), (9, False), (9, True), (N, False)]):
        memory.add(number, {"embeds": frame_of(size, size)}, None, is_same_view=same)
    assert [(each.frame, len(each.indices)) for each in memory.frames] == [(0, 4), (2, 2), (3, N)]


def test_what_looks_most_like_something_newer_goes_first():
    """Beside a choice by all cosines at once. The last frames before the newest go after all others."""
    frames = [frame_of(n) for n in range(RECENT + 4)]
    old, rest = frames[:3], frames[3:]
    old[1][3:7] = rest[-1][0] + 0.5 * frame_of(9)[3:7]  # near to a token of the newest frame
    room = 20
    memory = remember(frames, tokens=N * (RECENT + 1) + room, detail=1.0)
    left = [(each.frame, int(index)) for each in memory.frames if each.frame < 3 for index in each.indices]
    units = [torch.nn.functional.normalize(each, dim=-1) for each in frames]
    likeness = {
        (number, index): max(float((units[n] @ units[number][index]).max()) for n in range(number + 1, len(frames)))
        for number in range(3)
        for index in range(N)
    }
    # What went earlier was chosen by fewer frames: of the last choice alone the order is known.
    assert len(left) == room
    assert not {(1, index) for index in range(3, 7)} & set(left)
    mean = sum(likeness[key] for key in left) / room
    assert mean < sum(likeness.values()) / len(likeness)
    assert all(len(each.indices) == N for each in memory.frames[-RECENT - 1 :])


def test_a_frame_of_its_own_kind_outlasts_many_others():
    strange = frame_of(100)
    alike = [frame_of(0) + 0.5 * frame_of(n) for n in range(1, 30)]
    memory = remember([alike[0], strange, *alike[1:]], frames=6, detail=1.0, tokens=10 * N)
    assert memory.frames[0].frame == 1
    assert len(memory.frames[0].indices) > N // 2


@pytest.mark.parametrize(("tokens", "frames"), [(N, 32), (N + 1, 2), (3 * N, 4), (200, 5), (1000, 1)])
def test_limits_hold_whatever_comes(tokens, frames):
    memory = remember([frame_of(n) for n in range(40)], tokens=tokens, frames=frames)
    assert memory.frames[-1].frame == 39
    if tokens == N or frames == 1:
        assert len(memory.frames) == 1


def test_a_thousand_frames_take_as_much_as_a_hundred():
    """A patch of something new moves over a ground that stays."""
    memory, sizes, ground = TokenMemory(StreamSettings(tokens=60, frames=8), 0.98), [], frame_of(0)
    for number in range(1000):
        embeds = ground.clone()
        embeds[number % N] = frame_of(number + 1, 1)[0]
        memory.add(number, {"embeds": embeds, "deep": embeds * 2}, (1, 4, 4), is_same_view=True)
        if number + 1 in (100, 1000):
            check_memory(memory)
            sizes.append((memory.count, len(memory.frames), memory.count_bytes()))
    for before, after in zip(*sizes, strict=True):
        assert 0.9 * before <= after <= 1.1 * before


def test_bytes_are_counted():
    memory = remember([frame_of(0), frame_of(1)], detail=0.5)
    rows = (N + N // 2) * (2 * D * 4 + 8 + 4)  # two rows, an index and a likeness
    assert memory.count_bytes() == rows + N * D * 4
    memory.clear()
    assert (memory.count, memory.count_bytes()) == (0, 0)


def test_a_memory_smaller_than_a_frame_changes_nothing():
    memory = remember([frame_of(0)], tokens=N)
    with pytest.raises(KeepError, match="tokens=16 is less than the 17 tokens of one frame"):
        memory.add(1, {"embeds": frame_of(1, 17)}, None, is_same_view=False)
    assert [each.frame for each in memory.frames] == [0]


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"tokens": 0.5}, {"frames": True}, {"frames": -1}, {"detail": 2.0}])
def test_wrong_settings(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        StreamSettings(**wrong)
    with pytest.raises(FoveateError):
        StreamSettings(**dict.fromkeys(wrong))

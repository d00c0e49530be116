"""A second, obvious implementation answers every question about clips and screens from what is drawn."""

import random
from collections import Counter

import numpy as np
import pytest
import torch

from foveate.runtime.load import load
from foveate.world.clip_inputs import make_clip_inputs, make_clip_pixels, make_history_inputs
from foveate.world.clip_questions import CLIP_TASKS, make_clip_drill, make_clip_question
from foveate.world.clips import MOMENTS, SIDE, draw_frames, sample_clip
from foveate.world.plain_questions import NUMBERS
from foveate.world.scenes import SIGN
from foveate.world.screens import (
    LIT,
    SCREEN_TASKS,
    draw_shots,
    make_screen_drill,
    make_screen_question,
    sample_screens,
)
from foveate.world.suite import sample_clips


def words_of(question):
    return question.text.rstrip("?").split()


def find(tracks, words):
    """The one object that the words name."""
    named = [w for w in words if w in {v for t in tracks for v in (t.thing.form, t.thing.color)} and w != SIGN]
    (track,) = [t for t in tracks if named and all(w in (t.thing.form, t.thing.color) for w in named)]
    return track


def first_moment(track):
    return [i for i in range(len(track.places)) if track.places[i] is not None][0]  # noqa: RUF015


def comings(track):
    """The moments at which an object comes into the frame."""
    there = "".join("x" if place else " " for place in track.places)
    return [i + 1 for i in range(len(there) - 1) if there[i : i + 2] == " x"]


def cell_at(place):
    return "abc"[int(place[0] * 3)] + "123"[int(place[1] * 3)]


def show(track, words):
    return track.thing.color if "color" in words else track.thing.form


def compare(events, words):
    """The answer to a question about the order of (object, moment)."""
    if words[0] == "is":
        at = {track.thing: moment for track, moment in events}
        tracks, middle = [track for track, _ in events], words.index("before")
        a, b = find(tracks, words[:middle]), find(tracks, words[middle:])
        assert sum(track in (a, b) for track in tracks) == 2  # each came once
        return "yes" if at[a.thing] < at[b.thing] else "no"
    extreme = min if words[-1] == "first" else max
    return show(extreme(events, key=lambda event: event[1])[0], words)


def answer_way(clip, words):
    def direction(track):
        places = [place for place in track.places if place is not None]
        (x0, y0), (x1, y1) = places[0], places[-1]
        if max(abs(x1 - x0), abs(y1 - y0)) < 0.1:
            return "stands"
        if abs(x1 - x0) > abs(y1 - y0):
            return "right" if x1 > x0 else "left"
        return "falls" if y1 > y0 else "rises"

    if words[0] == "what":
        return direction(find(clip.tracks, words))
    (track,) = [t for t in clip.tracks if direction(t) == words[-1]]
    return show(track, words)


def answer_order(clip, words):
    return compare([(t, moment) for t in clip.tracks for moment in comings(t)], words)


def answer_often(clip, words):
    there = "".join("x" if place else " " for place in find(clip.tracks, words).places)
    return NUMBERS[len(there.split())]


def answer_change(clip, words):
    (sign,) = [t for t in clip.tracks if t.thing.form == SIGN]
    change = sum(text == sign.texts[0] for text in sign.texts)
    if "half" in words:
        assert change != MOMENTS / 2
        return "yes" if change < MOMENTS / 2 else "no"
    (comes,) = comings(find(clip.tracks, words))
    return "yes" if change < comes else "no"


def answer_said(clip, words):
    (sign,) = [t for t in clip.tracks if t.thing.form == SIGN]
    return sign.texts[0] if "first" in words else sign.texts[-1]


def answer_place(clip, words):
    return cell_at(find(clip.tracks, words).places[0 if "first" in words else -1])


OPINIONS = dict(
    zip(CLIP_TASKS, (answer_way, answer_order, answer_often, answer_change, answer_said, answer_place), strict=True)
)


def test_every_question_about_a_clip_is_answered_by_it():
    seen = Counter()
    for index in range(300):
        clip, rng = sample_clip(1, index), random.Random(index)
        for task in CLIP_TASKS:
            for _ in range(3):
                question = make_clip_question(clip, task, rng)
                if question is not None:
                    assert question.answer == OPINIONS[task](clip, words_of(question)), (clip, question)
                    seen[task, question.variant] += 1
    assert {task for task, _ in seen} == set(CLIP_TASKS)
    assert len(seen) == 14
    assert min(seen.values()) > 20


def test_no_answer_of_a_clip_is_much_more_frequent_than_the_others():
    for task in CLIP_TASKS:
        answers = Counter(clip.question.answer for clip in sample_clips("dev", task, 300))
        assert answers.most_common(1)[0][1] < {"change": 190}.get(task, 150)


def answer_press(screens, words):
    steps = [screens.buttons[number] for number in screens.pressed]
    if words[0] != "is" and ("before" in words or "after" in words):
        named = steps.index(find(steps, words[3:]))
        return show(steps[named - 1 if "before" in words else named + 1], words)
    return compare([(track, step) for step, track in enumerate(steps)], words)


def test_every_question_about_screens_is_answered_by_them():
    seen = Counter()
    for index in range(200):
        screens, rng = sample_screens(1, index), random.Random(index)
        for task in SCREEN_TASKS:
            question = make_screen_question(screens, task, rng)
            words = words_of(question)
            if task == "press":
                expected = answer_press(screens, words)
            elif task == "click":
                expected = cell_at(find(screens.buttons, words).places[-1])
            else:
                expected = screens.sign.texts[0 if "first" in words else -1]
            assert question.answer == expected, (screens, question)
            seen[task, question.variant] += 1
    assert len(seen) == 8


def test_what_is_drawn_is_what_the_clip_holds():
    """The pixels at an object's centre have about its colour exactly while it is there: it comes between two frames."""
    from foveate.world.scenes import COLORS

    for index in range(20):
        clip = sample_clip(1, index)
        frames = [np.asarray(frame, float) for frame in draw_frames(clip)]
        assert len(frames) == 2 * MOMENTS
        assert all(frame.shape == (SIDE, SIDE, 3) for frame in frames)
        for track in clip.tracks:
            if track.thing.form == SIGN:
                continue
            for moment, place in enumerate(track.places):
                x, y = (int(SIDE * part) for part in place or track.places[track.start])
                for part in range(2):
                    near = np.abs(frames[2 * moment + part][y, x] - COLORS[track.thing.color]).max() < 20
                    assert near == (place is not None and not (part == 0 and moment in comings(track)))


def test_a_sign_is_away_while_its_text_changes():
    for index in range(20):
        clip = sample_clip(1, index)
        for track in clip.tracks:
            if track.thing.form != SIGN:
                continue
            frames = [np.asarray(frame, float) for frame in draw_frames(clip)]
            change = sum(text == track.texts[0] for text in track.texts)
            x, y = (int(SIDE * part) for part in track.places[0])
            parts = [frame[y - 5 : y + 6, x - 9 : x + 10].mean(-1) for frame in frames]
            blank = [i for i, part in enumerate(parts) if part.std() < 30]
            assert blank == [2 * change]


def test_exactly_one_button_of_a_screenshot_is_lit():
    for index in range(20):
        screens = sample_screens(1, index)
        shots = draw_shots(screens)
        assert len(shots) == len(screens.pressed) == len(set(screens.pressed))
        for step, shot in enumerate(shots):
            pixels = np.asarray(shot, float)
            lit = []
            for number, track in enumerate(screens.buttons):
                x, y = (int(SIDE * part) for part in track.places[step])
                lit += [number] if np.abs(pixels[y - 12, x - 12] - LIT).max() < 20 else []
            assert lit == [screens.pressed[step]]


def test_drills_are_answered_by_what_they_name():
    for index in range(100):
        clip, rng = sample_clip(1, index), random.Random(index)
        drill = make_clip_drill(clip, rng)
        if drill.variant == "when":
            assert drill.answer == NUMBERS[first_moment(find(clip.tracks, words_of(drill)))]
        screens = sample_screens(1, index)
        drill = make_screen_drill(screens, rng)
        steps = [screens.buttons[number] for number in screens.pressed]
        if drill.variant == "when":
            assert drill.answer == NUMBERS[steps.index(find(steps, words_of(drill)))]
        else:
            assert drill.answer == show(steps[NUMBERS.index(words_of(drill)[-1])], words_of(drill))


def test_streams_differ_and_repeat():
    assert sample_clip(1, 5) == sample_clip(1, 5)
    assert sample_clip(1, 5) != sample_clip(2, 5)
    assert sample_screens(1, 5) == sample_screens(1, 5)
    assert sample_screens(1, 5) != sample_screens(2, 5)
    for task in (*CLIP_TASKS, *SCREEN_TASKS):
        few, more = sample_clips("dev", task, 3), sample_clips("dev", task, 5)
        assert [clip.question for clip in few] == [clip.question for clip in more[:3]]
        assert not {clip.id for clip in more} & {clip.id for clip in sample_clips("test", task, 5)}


@pytest.fixture(scope="module")
def loaded():
    return load("bundled-clips")


def test_a_patch_of_a_clip_holds_two_frames(loaded):
    """Patch by patch: 2 x 2 of them follow each other, and each has channels, then both frames, then its pixels."""
    frames = draw_frames(sample_clip(1, 3))
    made = make_clip_pixels(loaded.processor.image_processor, frames)
    times, rows, columns = made["video_grid_thw"][0].tolist()
    assert (times, rows, columns) == (MOMENTS, SIDE // 8, SIDE // 8)
    pixels = np.stack([np.asarray(frame, np.float32) for frame in frames]) / 127.5 - 1
    expected = []
    for moment in range(times):
        for y0 in range(0, rows, 2):
            for x0 in range(0, columns, 2):
                for y, x in ((y0, x0), (y0, x0 + 1), (y0 + 1, x0), (y0 + 1, x0 + 1)):
                    part = pixels[2 * moment : 2 * moment + 2, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
                    expected.append(part.transpose(3, 0, 1, 2).reshape(-1))
    assert np.abs(made["pixel_values_videos"].numpy() - np.stack(expected)).max() < 1e-5


@torch.no_grad()
def test_clips_and_histories_in_a_batch_are_those_alone(loaded):
    model = loaded.model
    for task, make in (("order", make_clip_inputs), ("press", make_history_inputs)):
        cases = sample_clips("dev", task, 2)
        frames, questions = [case.frames() for case in cases], [case.question.text for case in cases]
        together = model(**make(loaded, frames, questions)).logits[:, -1]
        for row in range(2):
            alone = model(**make(loaded, frames[row : row + 1], questions[row : row + 1])).logits[0, -1]
            assert torch.allclose(together[row], alone, atol=1e-3)

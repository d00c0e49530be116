"""Questions about clips, by task: where something moves, what came first, how often, when the sign changed."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from foveate.world.clips import MOMENTS, STANDS, Clip, Track
from foveate.world.plain_questions import NUMBERS, Question
from foveate.world.questions import DRILL
from foveate.world.scenes import SIGN


def make_clip_question(clip: Clip, task: str, rng: random.Random) -> Question | None:
    """Make a question of the task about the clip; None if the clip allows none."""
    return _MAKERS[task](clip, rng)


def name_track(track: Track, rng: random.Random) -> str:
    """Name an object by its form, its colour or both; in a clip each of them names one object."""
    thing = track.thing
    return rng.choice((thing.form, f"{thing.color} object", f"{thing.color} {thing.form}"))


def choose_attribute(track: Track, rng: random.Random) -> tuple[str, str]:
    """Choose what to ask for, "shape" or "color", with the answer."""
    return rng.choice((("shape", track.thing.form), ("color", track.thing.color)))


def _make_way(clip: Clip, rng: random.Random) -> Question | None:
    """Ask where an object moves, or which object moves in a direction."""
    movers = [track for track in clip.tracks if track.way != STANDS]
    if movers and rng.random() < 0.5:
        track = rng.choice(movers)
        if sum(other.way == track.way for other in movers) > 1:
            return None
        wanted, answer = choose_attribute(track, rng)
        goes = track.way if track.way in ("rises", "falls") else f"goes {track.way}"
        return Question("way", "which", f"which {wanted} {goes}?", answer, (track.thing,))
    there = [track for track in clip.tracks if None not in track.places and track.thing.form != SIGN]
    if not there:
        return None
    track = rng.choice(movers if movers and rng.random() < 0.6 else there)
    return Question("way", "where", f"what does the {name_track(track, rng)} do?", track.way, (track.thing,))


def _make_order(clip: Clip, rng: random.Random) -> Question | None:
    """Ask which object came first or last, or whether one came before another."""
    return ask_order([(track, moment) for track in clip.tracks for moment in track.arrivals], "order", rng)


def ask_order(events: Sequence[tuple[Track, int]], task: str, rng: random.Random) -> Question | None:
    """Ask for the first or the last of the events, or compare two; None if there is no pair at different moments.

    Only objects with one event are compared.
    """
    if len({moment for _, moment in events}) < 2:
        return None
    if rng.random() < 0.4:
        tracks = [track for track, _ in events]
        once = [(track, moment) for track, moment in events if tracks.count(track) == 1]
        if len(once) < 2:
            return None
        (a, start), (b, other) = rng.sample(once, 2)
        if start == other:
            return None
        text = f"is the {name_track(a, rng)} before the {name_track(b, rng)}?"
        return Question(task, "verify", text, "yes" if start < other else "no", (a.thing, b.thing))
    which, moment = rng.choice((("first", min(m for _, m in events)), ("last", max(m for _, m in events))))
    starting = [track for track, start in events if start == moment]
    if len(starting) > 1:
        return None
    wanted, answer = choose_attribute(starting[0], rng)
    return Question(task, which, f"which {wanted} is {which}?", answer, (starting[0].thing,))


def _make_often(clip: Clip, rng: random.Random) -> Question | None:
    """Ask how often an object was there."""
    tracks = [track for track in clip.tracks if track.thing.form != SIGN and track.way == STANDS]
    if not tracks:
        return None
    # The answer is drawn first, and some clips are left out; otherwise most answers would be one.
    times = rng.choice(sorted({track.times for track in tracks}))
    if times == 1 and rng.random() < 0.5:
        return None
    track = rng.choice([track for track in tracks if track.times == times])
    text = f"how many times is the {name_track(track, rng)} there?"
    return Question("often", str(times), text, NUMBERS[times], (track.thing,))


def _make_change(clip: Clip, rng: random.Random) -> Question | None:
    """Ask when the sign changes: in which half, or before or after an object comes."""
    sign = clip.sign
    if sign is None:
        return None
    if rng.random() < 0.5:
        if 2 * sign.change == MOMENTS:
            return None
        early = 2 * sign.change < MOMENTS
        return Question(
            "change", "half", "does the sign change in the first half?", "yes" if early else "no", (sign.thing,)
        )
    comers = [track for track in clip.tracks if len(track.arrivals) == 1 and track.arrivals[0] != sign.change]
    if not comers:
        return None
    track = rng.choice(comers)
    text = f"does the sign change before the {name_track(track, rng)}?"
    answer = "yes" if sign.change < track.arrivals[0] else "no"
    return Question("change", "event", text, answer, (sign.thing, track.thing))


def _make_said(clip: Clip, rng: random.Random) -> Question | None:
    """Ask for the first or the last text of the sign."""
    return None if clip.sign is None else ask_text(clip.sign, "said", rng)


def ask_text(sign: Track, task: str, rng: random.Random) -> Question:
    """Ask for the first or the last text of a sign."""
    which, moment = rng.choice((("first", 0), ("last", -1)))
    text, thing = sign.texts[moment], replace(sign.thing, text=sign.texts[moment])
    return Question(task, which, f"what does the {which} sign say?", text, (thing,))


def _make_place(clip: Clip, rng: random.Random) -> Question | None:
    """Ask for the cell in which a moving object is first or last."""
    movers = [track for track in clip.tracks if track.way != STANDS]
    if not movers:
        return None
    track = rng.choice(movers)
    which, moment = rng.choice((("first", 0), ("last", MOMENTS - 1)))
    text = f"where is the {which} {name_track(track, rng)}?"
    return Question("place", which, text, track.cell(moment), (track.thing,))


def make_clip_drill(clip: Clip, rng: random.Random) -> Question:
    """Make a training question that names a moment by its number, one step of the others: "when is the star there?"."""
    track = rng.choice([track for track in clip.tracks if track.thing.form != SIGN])
    moment, kind = rng.randrange(MOMENTS), rng.choice(("when", "there", "place", "sign"))
    if kind == "sign" and clip.sign is not None:
        return Question(DRILL, kind, "when does the sign change?", NUMBERS[clip.sign.change], (clip.sign.thing,))
    name = name_track(track, rng)
    if kind == "place" and track.places[moment] is not None:
        return Question(DRILL, kind, f"where is the {name} in {NUMBERS[moment]}?", track.cell(moment), (track.thing,))
    if kind == "when":
        return Question(DRILL, kind, f"when is the {name} there?", NUMBERS[track.start], (track.thing,))
    answer = "no" if track.places[moment] is None else "yes"
    return Question(DRILL, "there", f"is the {name} there in {NUMBERS[moment]}?", answer, (track.thing,))


def make_clip_caption(clip: Clip, rng: random.Random) -> Question:
    """Describe the objects in the order in which they come; the words of each are in random order.

    Beside form and colour stand when it comes (a word) and how often (a digit), or where it moves and from where to
    where; beside the sign its texts and when it changes.
    """
    phrases = []
    for track in sorted(rng.sample(clip.tracks, len(clip.tracks)), key=lambda track: track.start):
        words = [track.thing.form, track.thing.color]
        if track.thing.form == SIGN:
            words += [NUMBERS[track.change], f"{track.texts[0]} {track.texts[-1]}"]
        elif track.way == STANDS:
            words += [NUMBERS[track.start], str(track.times)]
        else:
            words += [track.way, f"{track.cell(0)} {track.cell(MOMENTS - 1)}"]
        phrases.append(" ".join(rng.sample(words, len(words))))
    return Question("caption", "clip", "describe the picture", ", ".join(phrases))


_MAKERS: dict[str, Callable[[Clip, random.Random], Question | None]] = {
    "way": _make_way,
    "order": _make_order,
    "often": _make_often,
    "change": _make_change,
    "said": _make_said,
    "place": _make_place,
}
CLIP_TASKS = tuple(_MAKERS)

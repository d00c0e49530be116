"""An hour of a drawn stream through `Session`: what it costs, and what is still there when a question comes.

    python benchmarks/streams.py                  # on the stream to report on; --split dev to choose on

One frame a second. Costs: bytes and tokens that are remembered, and seconds for a frame and for a question, after 100,
1,000 and all frames. What is there: every 90 seconds questions about the newest frame and about objects that are gone
are asked of several ways to remember a stream in as many tokens. Of the object the share of its cells that is there, in
the best of the frames that showed it; and the answer to one image of the tokens that are there of this frame, or of the
one nearest in time. Writes results/streams.json.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ceiling import measure_cover
from foveate import Session, StreamSettings
from foveate.apps.evaluate.statistics import bootstrap_interval
from foveate.models.kept import regroup_output
from foveate.pipeline.encode import Encoded, encode
from foveate.pipeline.join import join_images
from foveate.pipeline.prune import prune
from foveate.pipeline.settings import check_settings
from foveate.runtime.conversation import generate_answers, make_chat_inputs, make_inputs
from foveate.runtime.load import load, quiet
from foveate.runtime.loaded import LoadedModel
from foveate.world.plain_questions import Question
from foveate.world.scenes import Scene
from foveate.world.suite import SPLITS, HeldOutCase
from stream_arms import (
    SIZE,
    Arm,
    HeldFrame,
    State,
    drop_oldest,
    keep_all,
    keep_newest,
    keep_tiers,
    keep_uniform,
    remember,
)
from stream_world import ask_about, draw_frame, list_episodes, make_stream, show

OUT = Path(__file__).parent / "results" / "streams.json"
TOKENS, FRAMES = 512, 16
AGES = {"5 s to 1 min ago": (5, 60), "1 to 10 min ago": (60, 600), "longer ago": (600, 10**6)}
NEWEST = "the newest frame"
ANSWERED = ("Session", "three tiers (after FluxMem)", "uniform frames", "the newest frames", "everything")
EVERY = 90  # seconds from one moment of questions to the next
MARKS = (100, 1000)
ROUNDS = 15


@dataclass(frozen=True)
class StreamCase:
    """A question after `moment` frames about an object that frames `start` to `end` showed as it was."""

    moment: int
    kind: str
    question: Question
    scene: Scene
    start: int
    end: int


def make_cases(scenes: Sequence[Scene], moments: Sequence[int], seed: int) -> list[StreamCase]:
    """At every moment a question about the newest frame, and one about something gone for each range of ages."""
    episodes, cases = list_episodes(scenes), list[StreamCase]()
    for moment in moments:
        rng = random.Random(f"questions {seed} {moment}")
        now = show(scenes[moment - 1])
        for thing in rng.sample(now.things, len(now.things)):
            question = ask_about(thing, now, rng)
            if question is not None:
                start = moment - 1
                while start and scenes[start - 1].texture == now.texture and thing in scenes[start - 1].things:
                    start -= 1
                cases.append(StreamCase(moment, NEWEST, question, now, start, moment - 1))
                break
        for kind, (low, high) in AGES.items():
            old = [each for each in episodes if each.end < moment and low <= moment - 1 - each.end < high]
            for each in rng.sample(old, len(old)):
                question = ask_about(each.thing, each.scene, rng)
                if question is not None:
                    cases.append(StreamCase(moment, kind, question, each.scene, each.start, each.end))
                    break
    return cases


def run_session(loaded: LoadedModel, scenes: Sequence[Scene]) -> tuple[list[Tensor], list[dict[str, float]]]:
    """The tokens of all frames, and what the stream costs after some of them."""
    frames, marks = list[Tensor](), dict[int, tuple[Any, ...]]()
    settings = StreamSettings(tokens=TOKENS, frames=FRAMES)
    with Session(loaded.model, loaded.processor, keep=0.25, stream=settings) as session:
        memory = session.stream._memory
        add = memory.add

        def record(frame: Any, rows: Mapping[str, Tensor], grid: Any, *, is_same_view: bool) -> None:
            frames.append(rows["embeds"])
            add(frame, rows, grid, is_same_view=is_same_view)

        memory.add = record  # type: ignore[method-assign]
        for second, scene in enumerate(scenes):
            session.see(draw_frame(scene, second), at=second)
            if second + 1 in (*MARKS, len(scenes)):
                marks[second + 1] = (list(memory.frames), memory._anchors)
            if second % 300 == 299:
                print(f"{second + 1} frames", flush=True)
        memory.add = add  # type: ignore[method-assign]
        return frames, _time_marks(session, marks, [draw_frame(scenes[-1 - n], n) for n in range(ROUNDS)])


def _time_marks(
    session: Session, marks: Mapping[int, tuple[Any, ...]], images: Sequence[Any]
) -> list[dict[str, float]]:
    """What is remembered at each mark, and the seconds of a frame and a question there: in turns, so that the ratios
    to the first mark are those of a moment.
    """
    memory, laps = session.stream._memory, defaultdict[int, list[tuple[float, float]]](list)
    costs, at = list[dict[str, float]](), 10.0**6
    for image in images:
        for mark, (frames, anchors) in marks.items():
            memory.frames, memory._anchors, at = list(frames), anchors, at + 1
            started = time.perf_counter()
            session.see(image, at=at)
            seen = time.perf_counter()
            str(session.ask("what color is the star?", max_new_tokens=1, do_sample=False))
            laps[mark].append((seen - started, time.perf_counter() - seen))
            session._finish()
            session._messages.clear()
    for mark, (frames, anchors) in marks.items():
        memory.frames, memory._anchors = list(frames), anchors
        stream = session.stream
        costs.append({"after": mark, "bytes": stream.bytes, "tokens": stream.tokens, "frames": len(stream.times)})
        for n, name in enumerate(("frame", "question")):
            own, first = [lap[n] for lap in laps[mark]], [lap[n] for lap in laps[min(marks)]]
            costs[-1][f"{name} seconds"] = round(statistics.median(own), 4)
            ratios = [one / other for one, other in zip(own, first, strict=True)]
            costs[-1][f"{name} ratio"] = round(statistics.median(ratios), 3)
    return costs


class SingleFrameReader:
    """Answers a question about one image of which only some tokens are there."""

    def __init__(self, loaded: LoadedModel, image: Any) -> None:
        self.loaded, self.image = loaded, image
        inputs = make_inputs(loaded, [image], [""])
        self.output = join_images(_family(loaded), [encode(loaded.model, inputs)]).outputs["image"]
        self.answers: dict[tuple[Any, ...], str] = {}

    @torch.no_grad()
    def answer(self, question: str, held: HeldFrame) -> str:
        """The model's answer."""
        rows = held.rows.new_full((SIZE, held.rows.shape[-1]), torch.nan).index_copy(0, held.indices, held.rows)
        encoded = Encoded({"image": regroup_output(self.output, [rows])}, ({},))
        inputs = make_inputs(self.loaded, [self.image], [question])
        short = prune(self.loaded.model, inputs, check_settings(1.0, "foveate"), encoded, marks={"image": [{}]})
        return generate_answers(self.loaded, short, 6)[0]


def _family(loaded: LoadedModel) -> Any:
    from foveate.models import family_of

    return family_of(loaded.model)


def find_best(case: StreamCase, state: State) -> tuple[float, HeldFrame]:
    """The share of the object that is there in the best frame that showed it, and this frame or the nearest in time."""
    cover = measure_cover(HeldOutCase("", case.scene, case.question), 12, 12)
    numbers = sorted(state)
    shown = numbers[bisect_left(numbers, case.start) : bisect_left(numbers, case.end + 1)]
    shares = {number: _measure_share(cover, state[number]) for number in shown}
    if any(shares.values()):
        best = max(shares, key=lambda number: (shares[number], number))
        return shares[best], state[best]
    return 0.0, state[min(numbers, key=lambda number: min(abs(number - case.start), abs(number - case.end)))]


def _measure_share(cover: Tensor, held: HeldFrame) -> float:
    """The share of what the object covers whose tokens show at least as many cells of it as others."""
    is_there = held.sources >= 0
    groups = held.sources[is_there]
    own = torch.zeros(len(held.indices)).index_add(0, groups, (cover[is_there] > 0).float())
    size = torch.zeros(len(held.indices)).index_add(0, groups, torch.ones(len(groups)))
    counts = own / size >= 0.5
    return float((cover[is_there] * counts[groups]).sum() / cover.sum())


def measure_arm(
    reader: SingleFrameReader, states: Mapping[int, State], cases: Sequence[StreamCase], *, answers: bool
) -> dict[str, Any]:
    """Shares and answers of one way to remember, by the kind of question."""
    shares, right = defaultdict(list), defaultdict(list)
    for case in cases:
        share, held = find_best(case, states[case.moment])
        for kind in (case.kind, *(["all that is gone"] if case.kind != NEWEST else [])):
            shares[kind].append(share)
        if answers:
            is_right = float(reader.answer(case.question.text, held) == case.question.answer)
            for kind in (case.kind, *(["all that is gone"] if case.kind != NEWEST else [])):
                right[kind].append(is_right)
    tokens = [sum(len(held.indices) for held in state.values()) for state in states.values()]
    frames = [len(state) for state in states.values()]
    table = {"there": {kind: _score(values) for kind, values in shares.items()}}
    table |= {"right": {kind: _score(values) for kind, values in right.items()}} if answers else {}
    return {"tokens": max(tokens), "frames": max(frames), **table}


def _score(values: Sequence[float]) -> dict[str, Any]:
    """The mean with its 95 % interval."""
    low, high = bootstrap_interval(np.array(values))
    return {"mean": round(float(np.mean(values)), 3), "interval": [round(low, 3), round(high, 3)], "of": len(values)}


@torch.no_grad()
def measure_several_images(loaded: LoadedModel, scenes: Sequence[Scene], moments: Sequence[int]) -> dict[str, Any]:
    """Right answers about the newest of several whole frames, a minute apart, as images of one prompt."""
    table = {}
    for count in (1, 2, 4, 8):
        right = []
        for moment in moments[4:]:
            numbers = [moment - 1 - 60 * n for n in reversed(range(count))]
            now = show(scenes[moment - 1])
            rng = random.Random(f"several {moment}")
            asked = [q for thing in now.things if (q := ask_about(thing, now, rng)) is not None]
            if asked and numbers[0] >= 0:
                content = [*[{"type": "image"}] * count, {"type": "text", "text": asked[0].text}]
                images = [draw_frame(scenes[number], number) for number in numbers]
                inputs = make_chat_inputs(loaded, [{"role": "user", "content": content}], images)
                right.append(float(generate_answers(loaded, inputs, 6)[0] == asked[0].answer))
        if right:
            table[str(count)] = _score(right)
    return table


def list_arms() -> dict[str, Arm]:
    """All ways to remember, by name."""
    settings = StreamSettings(tokens=TOKENS, frames=FRAMES)
    return {
        "Session": remember(settings),
        "changes, the oldest dropped": drop_oldest(TOKENS),
        "three tiers (after FluxMem)": keep_tiers(TOKENS),
        "uniform frames": keep_uniform(TOKENS, 1.0),
        "uniform frames, a quarter of each": keep_uniform(TOKENS, 0.25),
        "the newest frames": keep_newest(TOKENS),
        "everything": keep_all,
    }


def main() -> None:
    """Write costs and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled-qwen")
    parser.add_argument("--split", default="test", choices=sorted(SPLITS))
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--no-answers", action="store_true")
    parser.add_argument("--frames", type=Path, help="a file for tokens and costs of all frames, read if it is there")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    with quiet():
        loaded = load(options.model)
    scenes = make_stream(SPLITS[options.split], options.seconds)
    moments = list(range(EVERY, options.seconds + 1, EVERY))
    record: dict[str, Any] = {"model": options.model, "split": options.split, "frames": options.seconds}
    if options.frames and options.frames.exists():
        stored = torch.load(options.frames)
        frames, record["costs"] = list(stored["tokens"]), stored["costs"]
    else:
        frames, record["costs"] = run_session(loaded, scenes)
        if options.frames:
            torch.save({"tokens": torch.stack(frames), "costs": record["costs"]}, options.frames)
    cases = make_cases(scenes, moments, SPLITS[options.split])
    reader = SingleFrameReader(loaded, draw_frame(scenes[0], 0))
    record["arms"] = {}
    for name, arm in list_arms().items():
        states = dict(zip(moments, arm(frames, moments), strict=True))
        answers = name in ANSWERED and not options.no_answers
        record["arms"][name] = measure_arm(reader, states, cases, answers=answers)
        print(name, json.dumps(record["arms"][name]), flush=True)
        options.out.write_text(json.dumps(record, indent=1) + "\n")
    if not options.no_answers:
        record["several images"] = measure_several_images(loaded, scenes, moments)
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

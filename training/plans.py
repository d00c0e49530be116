"""The stages of a training run and the plans of the two bundled models."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

EVERY = {"existence": 2, "attribute": 3, "relation": 4, "counting": 2, "reading": 3, "grounding": 3, "overview": 1}
COUNTING = {"existence": 3, "attribute": 1, "relation": 3, "counting": 4, "reading": 3, "grounding": 2, "overview": 4}
RELATIONS = {**EVERY, "existence": 1, "relation": 5, "overview": 4}
CROWDS = {**EVERY, "crowd": 1, "search": 4, "lookup": 1, "gist": 1}
"""Proportions of tasks. The second and the third have more of those that are learned last, the fourth those of dense
scenes too."""


@dataclass(frozen=True)
class TrainingStage:
    """One stage of training: what a batch holds, how long it runs and how fast it learns.

    Args:
        steps: Number of optimizer steps.
        batch: Images per step.
        horizon: Step at which the learning rate has fallen to a twentieth of `rate`; `steps` may be smaller.
        rate: The highest learning rate (AdamW's).
        stream: Number of the first scene. It keeps the images of the stages apart.
        questions: Questions about each image; half as many about a chart.
        captions: Captions of each image.
        drills: Drills about each image that is not a chart.
        diet: Proportions of the tasks among the questions.
        scenes: Proportions of the kinds of scenes among the images that are not charts.
    """

    steps: int
    batch: int
    horizon: int
    rate: float
    stream: int
    questions: int = 0
    captions: int = 0
    drills: int = 0
    diet: dict[str, int] = field(default_factory=dict)
    scenes: dict[str, int] = field(default_factory=lambda: {"scene": 1})


@dataclass(frozen=True)
class TrainingPlan:
    """The stages of one model.

    Args:
        see: Vision pre-training.
        read: Language training on symbols.
        align: Training of the connector alone.
        talk: Training of connector and language model.
        zoom: Vision training on dense scenes; None for a model that ends with *talk*.
        crowd: Training of connector and language model on dense scenes, beside the others.
        likeness: Weight of the cosine loss between patches and words; 0 turns it off.
        sharpness: Factor on the cosines of that loss.
        warmup: Steps of linear warm-up in every stage.
        seed: Seed of weights and data.
        workers: Processes that make batches.
        save_every: Steps between checkpoints.
    """

    see: TrainingStage
    read: TrainingStage
    align: TrainingStage
    talk: TrainingStage
    zoom: TrainingStage | None
    crowd: TrainingStage | None
    likeness: float
    sharpness: float = 10.0
    warmup: int = 50
    seed: int = 0
    workers: int = 1
    save_every: int = 100


_VARIED = {"scene": 1, "variety": 1}
_SEE = TrainingStage(steps=1200, batch=16, horizon=1200, rate=2e-3, stream=0, scenes={"scene": 1, "crowd": 4})
_READ = TrainingStage(
    steps=2000,
    batch=16,
    horizon=2400,
    rate=2e-3,
    stream=10_000_000,
    questions=12,
    captions=1,
    drills=3,
    diet=EVERY,
    scenes=_VARIED,
)
_TALK = TrainingStage(
    steps=1200,
    batch=8,
    horizon=1200,
    rate=7e-4,
    stream=30_000_000,
    questions=16,
    captions=2,
    drills=2,
    diet=COUNTING,
    scenes=_VARIED,
)
_ALIGN = replace(_TALK, steps=200, horizon=400, rate=2e-3, stream=20_000_000)
_ZOOM = TrainingStage(
    steps=300,
    batch=8,
    horizon=300,
    rate=1e-3,
    stream=40_000_000,
    scenes={"scene": 1, "crowd": 1, "shelf": 3, "fields": 3},
)
_CROWD = replace(
    _TALK,
    steps=700,
    horizon=700,
    stream=50_000_000,
    captions=1,
    diet=CROWDS,
    scenes={"scene": 1, "variety": 1, "crowd": 1, "shelf": 3, "fields": 3},
)
PLANS = {
    "llava": TrainingPlan(_SEE, _READ, _ALIGN, replace(_TALK, steps=1700, horizon=1700), None, None, likeness=0.5),
    "qwen": TrainingPlan(
        replace(_SEE, steps=1000, horizon=1200),
        replace(_READ, steps=1800, horizon=1800, diet=COUNTING),
        _ALIGN,
        replace(_TALK, steps=1500, horizon=1500),
        _ZOOM,
        _CROWD,
        likeness=0.0,
    ),
}

"""What the cosine between visual tokens and words is worth, by the space in which it is taken and by how words count.

For questions about objects: the mean rank of what the objects cover among all tokens of the image, from 0 (last) to 1
(first); chance is 0.5. The rows are how the words of a question count together, the space (raw; both sides centred;
without the words' common directions; whitened), and how many layers of the language model the question went through
alone. No answer is made, so it is cheap. Writes results/spaces-MODEL.json.

    python benchmarks/spaces.py --model bundled
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ceiling import measure_cover
from foveate.apps.evaluate.batches import EvalBatch
from foveate.apps.evaluate.examples import sample_examples
from foveate.method.glance import Glance
from foveate.method.scoring import score_peaked_tokens, score_pooled, score_token_max, score_token_mean
from foveate.method.tokens import VisualTokens
from foveate.pipeline.prune import prune_inputs
from foveate.runtime.load import load, quiet
from foveate.world.suite import HeldOutCase, sample_cases
from losses import score

RESULTS = Path(__file__).parent / "results"
TASKS = ("attribute", "relation", "counting", "reading", "grounding")
WORDS = {"pooled": score_pooled, "mean": score_token_mean, "max": score_token_max, "peaked": score_peaked_tokens}
SPACES = ("raw", "centred", "without common", "whitened")
DEPTHS = (0, 1, 2, 4, 8)
RIDGE = 0.1  # added to the words' covariance before it is inverted, in multiples of its mean eigenvalue


class WordSpace:
    """The space of the words at one depth, from a sample (words, d) of them."""

    def __init__(self, words: Tensor) -> None:
        self.mean = words.mean(0)
        values, directions = torch.linalg.eigh(torch.cov(words.T))
        self.common = directions[:, -max(1, len(values) // 100) :]
        self.whitener = directions * (values.clamp(min=0) + RIDGE * values.mean()).rsqrt() @ directions.T

    def project(self, name: str, visual: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Both in the space of this name. Visual tokens are centred on their image's mean, words on all words'."""
        if name == "raw":
            return visual, words
        visual, words = visual - visual.mean(0), words - self.mean
        if name == "without common":
            visual, words = (rows - rows @ self.common @ self.common.T for rows in (visual, words))
        if name == "whitened":
            visual, words = visual @ self.whitener, words @ self.whitener
        return visual, words


@dataclass(frozen=True)
class Recorder(Glance):
    """Records what it selects from."""

    seen: list[VisualTokens] = field(default_factory=list)

    def _select_many(self, images: Sequence[VisualTokens], ks: Sequence[int]) -> list[Tensor]:
        self.seen.extend(images)
        return super()._select_many(images, ks)


def read_question(model: Any, question: Tensor) -> dict[int, Tensor]:
    """(m, d) the question's tokens by the number of layers that they went through, without image and template."""
    decoder = model.model.language_model
    states = decoder(inputs_embeds=question[None], output_hidden_states=True, use_cache=False).hidden_states[:-1]
    return {depth: states[depth][0].float() for depth in DEPTHS if depth < len(states)}


def rank_objects(relevance: Tensor, cover: Tensor) -> float:
    """The mean rank of what the objects cover: 1 if it comes first, 0.5 by chance. Equal tokens share a rank."""
    below = (relevance[None] < relevance[:, None]).sum(1) + (relevance[None] == relevance[:, None]).sum(1) / 2 - 0.5
    return float((below * cover).sum() / cover.sum() / (len(cover) - 1))


def score_all(
    tokens: VisualTokens, states: dict[int, Tensor], spaces: dict[int, WordSpace]
) -> Iterator[tuple[str, Tensor]]:
    """The relevance of every token in each space, and by the attention of a first look."""
    yield "attention", tokens.extra("attention")
    visual = tokens.embeds.float()
    for depth, name in itertools.product(states, SPACES):
        rows, words = spaces[depth].project(name, visual, states[depth])
        for count, compute in WORDS.items():
            yield f"{count}, {name}, {depth}", compute(rows, words)


@torch.no_grad()
def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with quiet():
        loaded = load(options.model, dtype=torch.float32)
    if hasattr(loaded.processor.image_processor, "max_patches"):
        loaded.processor.image_processor.max_patches = 1  # a scene is one tile, whatever its aspect ratio
    cases = {case.id: case for task in TASKS for case in sample_cases(options.split, task, options.limit)}
    examples = [e for e in sample_examples(TASKS, options.split, options.limit) if cases[e.id].question.things]
    seen: list[tuple[HeldOutCase, VisualTokens]] = []
    for start in range(0, len(examples), 10):
        batch, recorder = EvalBatch(loaded, examples[start : start + 10], []), Recorder()
        prune_inputs(loaded.model, batch.inputs, keep=0.111, method=recorder)
        seen += [(cases[example.id], tokens) for example, tokens in zip(batch.examples, recorder.seen, strict=True)]
    states = [read_question(loaded.model, tokens.question) for _, tokens in seen]
    words = {depth: torch.cat([state[depth] for state in states]) for depth in states[0] if depth}
    words[0] = loaded.model.get_input_embeddings().weight.float()
    spaces = {depth: WordSpace(sample) for depth, sample in words.items()}
    ranks: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (case, tokens), state in zip(seen, states, strict=True):
        grid = tokens.grid or tokens.raster
        assert grid is not None
        cover = measure_cover(case, *grid[1:])
        for label, relevance in score_all(tokens, state, spaces):
            ranks[label][case.question.task].append(rank_objects(relevance, cover))
    table = {
        label: {"all": score(list(itertools.chain(*own.values()))), **{task: score(each) for task, each in own.items()}}
        for label, own in ranks.items()
    }
    settings = {"model": options.model, "split": options.split, "limit": options.limit, "questions": len(seen)}
    out = options.out or RESULTS / f"spaces-{options.model}.json"
    out.write_text(json.dumps({**settings, "ranks": table}, indent=1) + "\n")
    for label, own in sorted(table.items(), key=lambda row: -row[1]["all"]["value"]):
        print(f"{label:30}", *(f"{task} {value['value']:.3f}" for task, value in own.items()))


if __name__ == "__main__":
    main()

"""What a new question means for the tokens that earlier ones chose: the policies of a session."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from foveate.errors import InputError, describe
from foveate.method import Method
from foveate.method.blind import make_blind
from foveate.models.visual_input import VisualInput
from foveate.pipeline.earlier import EarlierChoices
from foveate.pipeline.prune import NONE_EARLIER, prune
from foveate.pipeline.report import PrunedInputs
from foveate.pipeline.settings import Keep, Positions, PruneSettings, check_settings
from foveate.runtime.image_cache import PreparedPrompt

Turns = Literal["rechoose", "frozen", "recall", "picture"]
POLICIES = get_args(Turns)


@dataclass(frozen=True)
class TurnPolicy:
    """Which tokens of the images each question of a conversation gets.

    Args:
        turns: The policy's name.
        settings: For the images of one turn.
        memory: At most so many visual tokens in the prompt; None for no limit.
    """

    turns: str
    settings: PruneSettings
    memory: int | None = None

    @property
    def appends(self) -> bool:
        """Whether tokens that the cache lacks go behind those that it holds."""
        return self.turns == "recall"

    def check_stream(self) -> None:
        """Raise `InputError` for a policy that keeps choices: what is left of the frames of a stream changes."""
        if self.turns != "rechoose":
            raise InputError(
                f"turns={self.turns!r} keeps what was chosen of an image, and the frames of a stream change: leave "
                "turns out, or show images without at."
            )

    def prune(self, model: Any, prepared: PreparedPrompt, kept: tuple[VisualInput, ...]) -> PrunedInputs:
        """The prompt of a turn; `kept` is what earlier turns kept.

        Where that and the new tokens are more than the memory, all are chosen anew, and share it.
        """
        earlier = EarlierChoices(() if self.turns == "rechoose" else kept, adds=self.appends)
        short = _prune(model, prepared, self.settings, earlier)
        if self._exceeds(short) and earlier.items:
            short = _prune(model, prepared, self.settings)
        if self.memory is not None and self._exceeds(short):
            shared = replace(self.settings, keep=self.memory, per="prompt", policy=None, recency=None)
            short = _prune(model, prepared, shared)
        return short

    def _exceeds(self, short: PrunedInputs) -> bool:
        return self.memory is not None and short.report.kept_count > self.memory


def _prune(
    model: Any, prepared: PreparedPrompt, settings: PruneSettings, earlier: EarlierChoices = NONE_EARLIER
) -> PrunedInputs:
    return prune(
        model, prepared.inputs, settings, prepared.encoded, earlier=earlier, marks=prepared.marks,
        question_last=bool(prepared.times),
    )  # fmt: skip


def check_turns(
    turns: str, keep: Keep, method: str | Method, positions: Positions, memory: int | None,
    modalities: Sequence[str] = ("image", "video"),
) -> TurnPolicy:  # fmt: skip
    """The policy of this name. Raises a `FoveateError` for settings that are wrong, or wrong together."""
    if turns not in POLICIES:
        raise InputError(f"turns={describe(turns)} is unknown: use one of {', '.join(map(repr, POLICIES))}.")
    settings = check_settings(keep, method, positions, modalities=modalities)
    own = settings.method
    if turns != "rechoose" and own.merges:
        raise InputError(
            f"{own.name} merges dropped tokens into kept ones, and without the question: leave turns={turns!r} out, "
            "its choices stay the same by themselves."
        )
    if turns != "rechoose" and settings.recency is not None:
        raise InputError(
            f"Recency thins an image out once a newer one came, and turns={turns!r} keeps what was chosen of it: leave "
            "turns out, or give keep a number."
        )
    if turns != "picture":
        return TurnPolicy(turns, settings, memory)
    if settings.policy is not None:
        raise InputError(f'keep={describe(keep)} chooses by the question, turns="picture" does not: give a number.')
    blind = make_blind(own)
    if blind is None and own.prompt_aware:
        raise InputError(
            f'{own.name} reads the question inside the model, and turns="picture" chooses without one: use another '
            "method, or leave turns out."
        )
    return TurnPolicy(turns, replace(settings, method=blind or own), memory)

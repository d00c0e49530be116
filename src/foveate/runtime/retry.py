"""Answer with the budget of a policy, and again with all tokens if the model is unsure of the first token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from foveate.errors import InputError
from foveate.method import Method
from foveate.models.wrappers import unwrap
from foveate.pipeline.encode import Encoded, encode
from foveate.pipeline.follow import find_policy
from foveate.pipeline.prune import prune_inputs
from foveate.pipeline.report import PrunedInputs
from foveate.pipeline.settings import Keep, Positions, check_settings
from foveate.policy import Policy
from foveate.runtime.first_token import read_odds


class UnsureError(Exception):
    """Ends `generate` before its first token."""


class StopIfUnsure(LogitsProcessor):
    """Raises `UnsureError` if the log-odds of the likeliest first token are below `limit`."""

    def __init__(self, limit: float) -> None:
        self.limit, self.is_first = limit, True

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        """The logits as they are."""
        if self.is_first and float(read_odds(scores)[0]) < self.limit:
            raise UnsureError
        self.is_first = False
        return scores


class SecondPrompt(BaseStreamer):
    """Passes tokens on to a streamer that the first try has sent its prompt to."""

    def __init__(self, streamer: Any) -> None:
        self.streamer, self.is_prompt = streamer, True

    def put(self, value: Tensor) -> None:
        """Pass tokens on, except for the prompt."""
        if not self.is_prompt:
            self.streamer.put(value)
        self.is_prompt = False

    def end(self) -> None:
        """Pass the end on."""
        self.streamer.end()


@dataclass(frozen=True, eq=False)
class RetriedOutput:
    """What `generate` returned, and how.

    Args:
        output: The return value of `generate`.
        inputs: The pruned inputs that it was made from, with their report.
        retried: Whether the first try was given up for one with all tokens.
        tokens: The visual tokens that the language model read, in both tries together.
    """

    output: Any
    inputs: PrunedInputs
    retried: bool
    tokens: int


def generate_with_retry(
    model: Any, inputs: Mapping[str, Any], *, keep: Policy | Literal["auto"] = "auto",
    method: str | Method = "foveate", positions: Positions = "original", encoded: Encoded | None = None, **options: Any,
) -> RetriedOutput:  # fmt: skip
    """`generate` with the budget of a policy, and once more with all tokens if the first token is unsure.

    The first try ends after its prefill, so that a retry costs one more prefill and no more tokens. The images are
    encoded once. The promise of `policy.retry` holds for greedy answers.

    Args:
        model: A vision-language model of transformers.
        inputs: A processor's output for one prompt; with `encoded` without `pixel_values`, if you like.
        keep: A policy with a retry, or "auto" for the one that comes with the model.
        method: As in `prune_inputs`.
        positions: As in `prune_inputs`.
        encoded: The same images from `foveate.encode`.
        options: Of `generate`.

    Returns:
        The output of `generate`, and whether it was made with all tokens.

    Raises:
        FoveateError: Several prompts, a policy without a retry, or what `prune_inputs` refuses.

    Example:
        result = foveate.generate_with_retry(model, inputs, keep="auto", max_new_tokens=32)
        result.output, result.retried
    """
    policy = find_retrying(model, keep, method, positions)
    if len(inputs["input_ids"]) != 1:
        raise InputError("A retry is for one prompt: answer the prompts of a batch one by one.")
    for name in ("assistant_model", "prompt_lookup_num_tokens"):
        if options.get(name) is not None:
            raise InputError(f"{name} guesses the first token, by which a retry is decided: leave it out.")
    if encoded is None:
        encoded = encode(model, inputs, methods=[method])
    settings: dict[str, Any] = {"method": method, "positions": positions, "encoded": encoded}
    own, streamer = options.pop("logits_processor", None) or (), options.pop("streamer", None)

    def generate(tried: PrunedInputs, processors: LogitsProcessorList, is_first: bool) -> Any:
        text = streamer if streamer is None or is_first else SecondPrompt(streamer)
        return model.generate(
            **tried, **options, logits_processor=LogitsProcessorList([*own, *processors]), streamer=text
        )

    short = prune_inputs(model, inputs, keep=policy, **settings)
    return retry_if_unsure(generate, short, lambda: prune_inputs(model, inputs, keep=1.0, **settings))


def find_retrying(model: Any, keep: Keep, method: str | Method, positions: Positions) -> Policy:
    """The policy of `generate_with_retry`. Raises `InputError` for a budget, or a policy without a retry."""
    policy = find_policy(unwrap(model), check_settings(keep, method, positions)).policy
    if not isinstance(policy, Policy):
        raise InputError(f"keep={keep} is a budget, which needs no retry: give a policy, or use prune_inputs.")
    if policy.retry is None:
        raise InputError("The policy has no retry: make one with foveate calibrate.")
    return policy.with_retry()


def retry_if_unsure(
    generate: Callable[[PrunedInputs, LogitsProcessorList, bool], Any], short: PrunedInputs,
    make_whole: Callable[[], PrunedInputs],
) -> RetriedOutput:  # fmt: skip
    """Call `generate(inputs, processors, True)` with the pruned inputs, and with all of them if it is unsure."""
    limits = [item.retry_below for item in short.report.items if item.retry_below is not None]
    tokens = short.report.kept_count
    try:
        output = generate(short, LogitsProcessorList([StopIfUnsure(max(limits))] if limits else []), True)
        return RetriedOutput(output, short, False, tokens)
    except UnsureError:
        whole = make_whole()
        output = generate(whole, LogitsProcessorList(), False)
        return RetriedOutput(output, whole, True, tokens + whole.report.kept_count)

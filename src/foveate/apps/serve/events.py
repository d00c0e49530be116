"""The events of a chat job, in the order in which they come."""

from dataclasses import dataclass

from foveate.apps.serve.generation import GenerationResult, PrunedPrompt


@dataclass(frozen=True)
class PromptReady:
    """The prompt is accepted and generation starts; a response may send its status."""


@dataclass(frozen=True)
class TextPiece:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True)
class AnswerEnd:
    """The answer is complete, or was cancelled."""

    prompt: PrunedPrompt
    result: GenerationResult
    notes: tuple[str, ...]


ChatEvent = PromptReady | TextPiece | AnswerEnd

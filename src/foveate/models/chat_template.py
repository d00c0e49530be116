"""A chat template that was read from a processor: which texts open and end the user's turns."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from foveate.models.turns import Dialog, Turn

BLANKS = " \t\r\n\u2581\u0120\u010a\u0109\u010d"  # as vocabularies spell them
LINE_END = "<0x0A>"  # as vocabularies with byte fallback spell it
SPECIAL = 0xF0000  # every special token is one character from here on (private use)
SPECIALS = f"[{chr(SPECIAL)}-{chr(0x10FFFF)}]"
# What processors write before the tokens of an image, a tile or a frame; `_` stands for any blank.
LABELS = (
    r"<\d+\.\d+_seconds>",  # Qwen3-VL and others
    r"\d\d:\d\d(:\d\d(\.\d+)?)?_?",  # Gemma 4, Kimi
    r"[Ff]rame_?(from_|\d+)[^\n\u010a]{0,60}:_?",  # InternVL, Nemotron, SmolVLM
    r"Here_is_the_original_image_",  # Gemma 3 and its crops
    r"_and_here_are_some_crops_to_help_you_see_better_",
    r"(?<=SPECIAL)\d+(\.\d+)?",  # MiniCPM's numbers of images, GLM's seconds
)
INTRODUCTION = r"You_are_provided_the_following_series_of_.{1,60}_frames_from_a_.{1,40}_video\."  # SmolVLM
USER, PREAMBLE, OTHER = "user", "preamble", "other"
UNLEARNED = (
    "A prompt was not written by the chat template that foveate.learn_template read, so all its text was taken for the "
    "question: write it with processor.apply_chat_template."
)
UNMARKED = (
    "This chat template writes the result of a tool as a turn of the user: the last turn was taken for the question, "
    "and may be such a result. Prune prompts with results of tools with a method that reads no question."
)
MERGED = (
    "This chat template writes a blank line between the system's words and the user's: a question with a blank line "
    "was taken whole, and may hold the system's words too. Put the image into the turn of the question to be sure."
)


@dataclass(frozen=True)
class ChatTemplate:
    """How a chat template frames what the user says, in the spelling of the vocabulary's tokens.

    Args:
        tokenizer: The fast tokenizer that spells the tokens.
        specials: Special tokens, which are no words.
        openings: What opens a turn, and who speaks in it: `USER`, `OTHER`, or `PREAMBLE` for words of the system that
            stand in the user's turn.
        endings: What ends a turn of the user.
        resumes: For some openings, what the user's words follow; a preamble without it has none.
        merged: The turn of the user, "first" or "last", that also holds the system's words, without a mark of their
            own; "" where they are marked.
        separator: What stands between the system's words and the user's there.
        lead: The blank lines that the processor itself writes before an image.
        has_unmarked_results: Whether the result of a tool looks like any turn of the user.
        inserts: Regular expressions for words that the template itself writes beside an image.
    """

    tokenizer: Any
    specials: Sequence[int]
    openings: Mapping[str, str]
    endings: Sequence[str]
    resumes: Mapping[str, str]
    merged: str = ""
    separator: str = ""
    lead: str = ""
    inserts: Sequence[str] = ()
    has_unmarked_results: bool = False

    def split(self, ids: Sequence[int], first_image: int, ignored: Sequence[bool]) -> Dialog:
        """The turns of one row of ids; `ignored` columns hold no words."""
        row = SpelledRow(spell(self.tokenizer, self.specials, ids), ignored, self.inserts)
        turns = self._find_spans(row.text)
        if not any(role == USER for role, _, _ in turns):
            return Dialog([row.read_turn(True, 0, len(row.text))], UNLEARNED, is_whole=True)
        doubt = ""
        user = [number for number, (role, _, _) in enumerate(turns) if role == USER]
        if self.has_unmarked_results and len(user) > 1:
            doubt = UNMARKED
        if self.merged:
            number = user[0 if self.merged == "first" else -1]
            _, start, end = turns[number]
            image = row.text[row.starts[first_image] : row.starts[first_image + 1]]
            begin, certain = self._skip_system(row.text[start:end], image or chr(0))
            turns[number] = (USER, start + begin, end)
            doubt = MERGED if number == user[-1] and not certain else doubt
        return Dialog([row.read_turn(role == USER, start, end) for role, start, end in turns], doubt)

    def _find_spans(self, text: str) -> list[tuple[str, int, int]]:
        """Who speaks from where to where."""
        marks = sorted({*self.openings, *self.endings}, reverse=True)  # each before those that it begins with
        spans: list[tuple[str, int, int]] = []
        opening, begin = "", 0
        for match in [*re.finditer("|".join(map(re.escape, marks)), text), None]:
            mark = match.group() if match else ""
            if opening:
                spans += self._read_span(text, opening, begin, match.start() if match else len(text))
                opening = ""
            if match and mark in self.openings:
                opening, begin = mark, match.end()
        return spans

    def _read_span(self, text: str, opening: str, begin: int, end: int) -> list[tuple[str, int, int]]:
        role, mark = self.openings[opening], self.resumes.get(opening, "")
        resume = text.rfind(mark, begin, end) if mark else -1
        if resume >= 0:
            return [(USER, resume + len(mark), end)]
        return [(role, begin, end)] if role != PREAMBLE else []

    def _skip_system(self, text: str, image: str) -> tuple[int, bool]:
        """Where the user's words begin in a turn, and whether that is certain: the system's end before an image."""
        marks = f"(?={SPECIALS}*{re.escape(image)})"
        ends = [match.end() for match in re.finditer(re.escape(self.separator + self.lead) + marks, text)]
        words_first = bool(re.sub(SPECIALS, "", text.partition(image)[0]).strip(BLANKS))
        return max(ends, default=0), bool(ends) or not words_first or self.separator not in text.strip(BLANKS)


class SpelledRow:
    """A row of tokens as one text."""

    def __init__(self, pieces: Sequence[str], ignored: Sequence[bool], inserts: Sequence[str]) -> None:
        self.text, self.ignored = "".join(pieces), ignored
        for pattern in (INTRODUCTION, *(f"{label}(?=SPECIAL)" for label in LABELS)):
            inserts = [*inserts, pattern.replace("_", f"[{BLANKS}]").replace("SPECIAL", SPECIALS)]
        for pattern in inserts:
            self.text = re.sub(pattern, lambda match: " " * len(match.group()), self.text)
        self.starts = [0, *accumulate(map(len, pieces))]

    def read_turn(self, is_user: bool, start: int, end: int) -> Turn:
        """The turn whose words stand between two places of the text."""
        first, last = bisect_right(self.starts, start) - 1, bisect_left(self.starts, end)
        words = [c for c in range(first, last) if not self.ignored[c] and self._is_word(c, start, end)]
        return Turn(first, last, is_user, words)

    def _is_word(self, column: int, start: int, end: int) -> bool:
        piece = self.text[max(self.starts[column], start) : min(self.starts[column + 1], end)].strip(BLANKS)
        return bool(piece) and ord(piece[0]) < SPECIAL


def spell(tokenizer: Any, specials: Sequence[int], ids: Sequence[int]) -> list[str]:
    """The tokens as the vocabulary spells them; a special one is one character of its own."""
    names = {token: chr(SPECIAL + number) for number, token in enumerate(specials)}
    spelled = zip(ids, tokenizer.convert_ids_to_tokens(list(ids)), strict=True)
    return [names.get(i) or ("\n" if token == LINE_END else token or "") for i, token in spelled]

"""Templates of vocabularies in which one special id opens a turn and others stand inside one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from foveate.pipeline.question import Template


def opened_by(opener: int, plain: Template, inside: Iterable[int] = (), filler: Iterable[int] = ()) -> Template:
    """`plain`, but `opener` opens a turn, and of the special ids `inside` no other does. `filler` are no words."""
    structure = (plain.structure | frozenset(inside)) - plain.closers - {opener}
    controls = plain.controls | structure | {opener}
    return replace(plain, controls=controls, structure=structure, filler=plain.filler | frozenset(filler))


def granite(plain: Template, vocabulary: int) -> Template:
    """Granite 4's: `<|start_of_role|>` opens a turn; ends of roles, pictures and marks of tiles stand inside."""
    return opened_by(100264, plain, range(100256, vocabulary)) if vocabulary > 100264 else plain

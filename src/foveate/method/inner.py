"""`InnerMethod`: what all methods have in common that run inside the decoder, while the model runs."""

from abc import ABC
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class InnerMethod(ABC):
    """A method for which `attach` and `pruning` put hooks on the decoder's layers."""

    name: ClassVar[str]  # as registered
    paper: ClassVar[str]  # "arXiv 2403.06764"
    summary: ClassVar[str]  # one line
    prunes: ClassVar[str]  # where, in the table of methods
    prompt_aware: ClassVar[bool] = True  # the attention is that of text behind the image

"""Stock vLLM, pruning inside vLLM, and stock vLLM on images of as few tokens, side by side."""

from foveate.apps.bench.served.plot import plot
from foveate.apps.bench.served.report import to_markdown, to_record
from foveate.apps.bench.served.run import run

__all__ = ["plot", "run", "to_markdown", "to_record"]

"""Pruning inside vLLM, side by side with stock vLLM, and with stock vLLM that is shown pictures of as few tokens."""

from foveate.apps.bench.served.report import markdown, record
from foveate.apps.bench.served.run import run

__all__ = ["markdown", "record", "run"]

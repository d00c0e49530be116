"""The one fair code path for numbers: the same questions for every method, with intervals and paired tests."""

from foveate.evaluate.examples import Example, read_data, world_examples
from foveate.evaluate.report import Summary, summarize
from foveate.evaluate.runner import evaluate

__all__ = ["Example", "Summary", "evaluate", "read_data", "summarize", "world_examples"]

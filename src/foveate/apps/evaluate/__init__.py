"""The one fair code path for numbers: the same questions for every method, with intervals and paired tests."""

from foveate.apps.evaluate.examples import Example, read_data, world_examples
from foveate.apps.evaluate.report import Summary, summarize
from foveate.apps.evaluate.runner import evaluate

__all__ = ["Example", "Summary", "evaluate", "read_data", "summarize", "world_examples"]

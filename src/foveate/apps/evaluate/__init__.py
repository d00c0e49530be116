"""Accuracy of pruning: the same questions for every method, with intervals and paired tests."""

from foveate.apps.evaluate.data import read_data
from foveate.apps.evaluate.examples import EvalExample, sample_examples
from foveate.apps.evaluate.plan import EvalPlan, EvalRun
from foveate.apps.evaluate.report import EvalSummary, summarize
from foveate.apps.evaluate.runner import evaluate

__all__ = ["EvalExample", "EvalPlan", "EvalRun", "EvalSummary", "evaluate", "read_data", "sample_examples", "summarize"]

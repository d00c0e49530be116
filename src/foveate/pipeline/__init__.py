"""Pruning step by step: encode, locate the question, allocate the budget, select, shorten, report."""

"""Pruning inside a live model: attach, pruning, and the in-decoder methods."""

"""The laws of pruning, and the tiny random models and batches on which they are checked."""

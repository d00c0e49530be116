"""Time and memory, side by side: the unpruned model, the pruned one, and the limit."""

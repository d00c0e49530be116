"""`foveate bench`: time and memory of the unpruned model, the pruned model, and the limit, side by side."""

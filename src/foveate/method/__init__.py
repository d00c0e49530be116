"""What to keep: one published method a file, tensors in, indices out. Knows no model, imports no transformers."""

from foveate.method.base import Method, MethodInfo, find, methods, resolve, select

__all__ = ["Method", "MethodInfo", "find", "methods", "resolve", "select"]

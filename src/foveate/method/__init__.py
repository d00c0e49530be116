"""What to keep: one published method a file, tensors in, indices out. Knows no model, imports no transformers."""

from foveate.method.base import Method, MethodInfo, methods, resolve, resolve_any, select

__all__ = ["Method", "MethodInfo", "methods", "resolve", "resolve_any", "select"]

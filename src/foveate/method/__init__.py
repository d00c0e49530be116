"""Selection methods: which tokens of an image to keep. They know no model and do not import transformers."""

from foveate.method.base import Method
from foveate.method.registry import MethodInfo, methods, resolve, resolve_any, select

__all__ = ["Method", "MethodInfo", "methods", "resolve", "resolve_any", "select"]

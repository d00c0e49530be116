"""Image-text-to-text models of transformers that are not supported, each with the reason."""

OUTSIDE: dict[str, tuple[str, str]] = {}

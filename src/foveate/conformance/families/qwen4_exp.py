"""Qwen4-Exp: a convolution over n-grams."""

from typing import Any

from foveate.conformance.families.patches import TinyTimestamped


class TinyQwen4Exp(TinyTimestamped):
    """Tiny models of `Qwen4Exp`."""

    def randomize_zeros(self, model: Any) -> None:
        """The convolution starts at zero."""
        for layer in self.family.decoder(model).layers:
            if layer.ple is not None:
                layer.ple.conv1d.weight.normal_(std=0.05)

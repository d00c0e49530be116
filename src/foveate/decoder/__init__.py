"""The second seam: methods that drop visual tokens between the decoder's layers, after a look at its attention.

The methods' files know no model; the hooks know no method. Importing this package imports neither.
"""

from foveate.decoder.base import DecoderMethod

__all__ = ["DecoderMethod"]

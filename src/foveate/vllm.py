"""The plug-in for vLLM under its name in version 0.1, for one release."""

import sys
import warnings

from foveate.integrations import vllm

warnings.warn("foveate.vllm is now foveate.integrations.vllm.", DeprecationWarning, stacklevel=2)
sys.modules[__name__] = vllm

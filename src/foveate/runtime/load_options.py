"""`LoadOptions`: how `load` reads a model, checked before any weights are read."""

import copy
import importlib.util
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from foveate.errors import InputError, describe
from foveate.runtime.late import cause_of, import_late

STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")
BITS = ("4bit", "8bit")


@dataclass(frozen=True)
class LoadOptions:
    """The options of `load`, under the same names; None is the default of each."""

    device_map: str | int | Mapping[str, str | int] | None = None
    dtype: Any = None
    attention: str | None = None
    quantize: str | None = None
    revision: str | None = None
    adapter: str | None = None
    gguf_file: str | None = None

    def to_record(self) -> dict[str, Any]:
        """The options that are set."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def make_absolute(self) -> "LoadOptions":
        """The same options for a process with another working directory."""
        folder = Path(self.adapter or "").expanduser()
        return replace(self, adapter=str(folder.absolute())) if self.adapter and folder.is_dir() else self

    @property
    def source(self) -> dict[str, Any]:
        """Which files of a model are read, for every `from_pretrained`."""
        return {} if self.revision is None else {"revision": self.revision}

    def check(self) -> None:
        """Raise `InputError` for an option that cannot be honoured, as far as can be seen without the model."""
        for name in ("attention", "quantize", "revision", "adapter", "gguf_file"):
            value = getattr(self, name)
            if not (value is None or isinstance(value, str) or (name == "adapter" and isinstance(value, os.PathLike))):
                raise InputError(f"{name} is {describe(value)}: give it as text.")
        _check_dtype(self.dtype)
        _check_devices(self.device_map)
        if self.quantize is not None:
            _choose_quantizer(self.quantize)
        if (self.device_map, self.quantize, self.gguf_file) != (None, None, None):
            require("accelerate", "device_map, quantize and gguf_file")
        if self.adapter is not None:
            require("peft", "adapter")
            if "disk" in _list_devices(self.device_map):
                raise InputError("An adapter does not work with weights on disk: give another device_map.")

    def to_arguments(self, config: Any, device: str) -> dict[str, Any]:
        """The arguments of `from_pretrained` for the model. `device` is where a quantized model goes by default.

        Raises `InputError` for options that do not fit the model, before its weights are read.
        """
        arguments = {**self.source, "dtype": self.dtype or "auto"}
        if self.quantize is not None:
            if getattr(config, "quantization_config", None) is not None:
                raise InputError("The weights of this model are quantized already: leave quantize out.")
            arguments["quantization_config"] = _make_quantization(self.quantize)
        is_quantized = "quantization_config" in arguments or getattr(config, "quantization_config", None) is not None
        optional = {
            "gguf_file": self.gguf_file,
            "attn_implementation": self.attention,
            "device_map": self.device_map if self.device_map is not None else {"": device} if is_quantized else None,
        }
        _check_on_meta(config, self.attention, self.device_map)
        return arguments | {name: value for name, value in optional.items() if value is not None}


def parse_device_map(text: str) -> Any:
    """A device map as text: JSON, the number of an accelerator, or as it is. Raises `InputError` for broken JSON."""
    if not text.lstrip().startswith(("{", "[")):
        return int(text) if text.isascii() and text.isdigit() else text
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InputError(f'device_map {text!r} is no JSON object: write it as \'{{"module": "device"}}\'.')
    return value


def require(package: str, option: str) -> None:
    """Raise `InputError` if a package that an option needs is not installed."""
    if importlib.util.find_spec(package) is None:
        raise InputError(f"{option} needs {package}: pip install 'foveate[load]'.")


def _check_dtype(dtype: Any) -> None:
    torch = import_late("torch")
    value = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    is_auto = dtype is None or (isinstance(dtype, str) and dtype == "auto")
    is_type = isinstance(value, torch.dtype) and value in (torch.float32, torch.bfloat16, torch.float16, torch.float64)
    if not (is_auto or is_type):
        raise InputError(f"dtype {describe(dtype)} is no floating-point type: give auto, float32, bfloat16 or float16.")


def _list_devices(device_map: Any) -> list[Any]:
    """The devices of a map; none for a strategy."""
    if isinstance(device_map, Mapping):
        return list(device_map.values())
    return [] if device_map is None or device_map in STRATEGIES else [device_map]


def _check_devices(device_map: Any) -> None:
    torch = import_late("torch")
    if not (device_map is None or isinstance(device_map, (str, int, Mapping, torch.device))):
        raise InputError(
            f"device_map: {describe(device_map)} is no device or map of devices: give text, a number or a dictionary."
        )
    if isinstance(device_map, Mapping) and not device_map:
        raise InputError('device_map is empty: give a device for every module, or {"": "cpu"} for all.')
    for device in _list_devices(device_map):
        try:
            on_disk = device == "disk" and isinstance(device_map, Mapping)
            usable = on_disk or torch.empty(0, device=torch.device(device)).device.type != "meta"
        except (RuntimeError, AssertionError, TypeError, ValueError):
            usable = False
        if not usable:
            raise InputError(
                f"device_map: {describe(device)} is no device of this machine: give auto, balanced, a device such as "
                "cpu or cuda:0, or a JSON object of modules and devices."
            )


def _choose_quantizer(bits: str) -> str:
    """The package that quantizes."""
    if bits not in BITS:
        raise InputError(f"quantize {bits!r} is unknown: give {' or '.join(BITS)}.")
    packages = ("bitsandbytes",) if bits == "4bit" else ("bitsandbytes", "torchao")
    package = next((name for name in packages if importlib.util.find_spec(name) is not None), None)
    if package is None:
        raise InputError(f"quantize {bits} needs {' or '.join(packages)}: pip install bitsandbytes.")
    return package


def _make_quantization(bits: str) -> Any:
    transformers = import_late("transformers")
    if _choose_quantizer(bits) == "bitsandbytes":
        return transformers.BitsAndBytesConfig(**{f"load_in_{bits}": True})
    return transformers.TorchAoConfig(import_late("torchao.quantization").Int8WeightOnlyConfig())


def _check_on_meta(config: Any, attention: str | None, device_map: Any) -> None:
    """Make the model without weights, and let transformers and accelerate look at the options."""
    torch, auto = import_late("torch"), import_late("transformers").AutoModelForImageTextToText
    if attention is None and not isinstance(device_map, Mapping):
        return
    own = {} if attention is None else {"attn_implementation": attention}
    try:
        with torch.device("meta"):
            model = auto.from_config(copy.deepcopy(config), **own)
    except (ImportError, ValueError) as error:
        raise InputError(f"attention {attention!r} cannot be used: {cause_of(error)}.") from error
    if isinstance(device_map, Mapping):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # of keys that name no module
                import_late("accelerate.utils").check_device_map(model, device_map)
        except (ValueError, UserWarning) as error:
            raise InputError(f"device_map does not fit the model: {cause_of(error)[:300]}.") from error

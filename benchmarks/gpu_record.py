"""The file of `gpu.py`: what its rows have in common, and how it is read again."""

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from foveate.apps.results import read_commit, read_versions
from foveate.errors import InputError
from gpu_timing import GpuSettings, Row

SAME = ("scale", "device", "versions", "commit")  # what all rows of a file have in common


def describe_device(device: str) -> Row:
    """The hardware, and what torch says of it."""
    if device == "cpu":
        return {"name": "cpu", "machine": platform.machine(), "threads": torch.get_num_threads()}
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "GiB": round(properties.total_memory / 2**30, 1),
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda or torch.version.hip,
        "cudnn": torch.backends.cudnn.version(),
    }


def describe_run(settings: GpuSettings) -> dict[str, Any]:
    """What all rows of a file have in common."""
    installed = {each.metadata["Name"] for each in importlib.metadata.distributions()}
    versions = read_versions(*(["triton"] if "triton" in installed else []))
    values = (settings.scale, describe_device(settings.device), versions, read_commit())
    return dict(zip(SAME, values, strict=True))


def read_record(path: Path) -> dict[str, Any]:
    """A file of results. Raises `InputError` if there is none, or a damaged one."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        rows = [row for part in record["parts"].values() for row in part.values()]
        whole = all(name in record for name in SAME) and all(isinstance(row["status"], str) for row in rows)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): give the file of a run.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}): give --fresh to measure all anew.") from error
    if not whole:
        raise InputError(f"{path} is no file of this script: give --fresh to replace it, or another --out.")
    return dict(record)


def check_same(path: Path, known: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raise `InputError` if the rows that are there were measured by something else."""
    for name in SAME:
        if known[name] != own[name]:
            raise InputError(
                f"{path} was measured with {_tell(name, known[name], own[name])}, and this run has "
                f"{_tell(name, own[name], known[name])}: give --fresh to measure all anew, or another --out."
            )


def _tell(name: str, value: Any, other: Any) -> str:
    """A value, of several those that differ from the other's."""
    if not isinstance(value, dict) or not isinstance(other, dict):
        return f"{name} {value}"
    return ", ".join(f"{each} {value.get(each)}" for each in {**value, **other} if value.get(each) != other.get(each))

"""Arguments of a wrong type are refused in a sentence by the public functions that do not compute."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import foveate
from foveate.errors import FoveateError, describe
from foveate.pipeline.report import PrunedInputs, Report

IMAGE = Image.new("RGB", (8, 8))
EMPTY = Report((), "foveate", 0.0)


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no text")


ODD = [None, 3, 2**70, 1.5, True, b"x", [], {}, (1, 2), np.zeros(3), torch.zeros(3), object(), Unprintable()]


def refuse(call, *arguments, **more):
    """The call works or is refused; whatever else it raises fails the test."""
    try:
        call(*arguments, **more)
        text = ""
    except FoveateError as error:
        text = str(error)
    assert len(text) < 450
    assert "\n" not in text


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_odd_values(value, tmp_path):
    refuse(foveate.draw, value, EMPTY)
    for name in ("report", "item", "legend", "step"):
        refuse(foveate.draw, **{"image": IMAGE, "report": EMPTY, name: value})
    refuse(foveate.learn_template, value, None)
    refuse(foveate.load, value)
    for name in ("device_map", "dtype", "attention", "quantize", "revision", "adapter", "gguf_file"):
        refuse(foveate.load, str(tmp_path), **{name: value})
    refuse(PrunedInputs, value, EMPTY)
    assert describe(value)


def test_a_path_is_a_name_and_a_long_name_is_none(tmp_path):
    with pytest.raises(FoveateError, match="holds no config"):
        foveate.load(tmp_path)
    with pytest.raises(FoveateError, match="has 3000 characters"):
        foveate.load("x" * 3000)
    assert isinstance(tmp_path, Path)

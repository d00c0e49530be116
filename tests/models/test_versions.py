"""A transformers that is newer than those that are tested is named once, with the command that checks it."""

import warnings

import pytest

from foveate.errors import FoveateWarning
from foveate.models import family_of, versions


@pytest.fixture(autouse=True)
def _forget():
    versions.warn_if_untested.cache_clear()
    yield
    versions.warn_if_untested.cache_clear()


@pytest.mark.parametrize("installed", ["5.25.0", "5.25.0.dev0", "6.0.0"])
def test_a_newer_transformers_warns_once(llava, monkeypatch, installed):
    monkeypatch.setattr(versions, "version", lambda _: installed)
    with pytest.warns(FoveateWarning, match=f"up to {versions.NEWEST_TESTED}, and this is {installed}.*foveate doctor"):
        family_of(llava)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        family_of(llava)


@pytest.mark.parametrize("installed", ["5.18.0", f"{versions.NEWEST_TESTED}.9"])
def test_a_tested_transformers_does_not_warn(llava, monkeypatch, installed):
    monkeypatch.setattr(versions, "version", lambda _: installed)
    assert family_of(llava).model_type == "llava"

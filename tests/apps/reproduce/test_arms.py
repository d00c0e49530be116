"""Which runs of lmms-eval there are."""

import pytest

from foveate.apps.reproduce.arms import make_arms, split_names
from foveate.errors import FoveateError, InputError
from foveate.method.divprune import DivPrune
from foveate.method.registry import METHODS
from foveate.method.zspaprune import ZSPAPrune


def test_the_unpruned_model_then_every_method_at_every_budget():
    arms = make_arms("divprune, zspaprune(core=0.6)", "64,0.1")
    assert [arm.label for arm in arms] == [
        "unpruned", "divprune @ 64", "divprune @ 0.1", "zspaprune(core=0.6) @ 64", "zspaprune(core=0.6) @ 0.1",
    ]  # fmt: skip
    assert [arm.keep for arm in arms] == [None, 64, 0.1, 64, 0.1]
    assert [type(arm.method) for arm in arms[1::2]] == [DivPrune, ZSPAPrune]
    assert not any(arm.optional for arm in arms)


def test_all_is_every_method_and_only_what_must_run_is_not_optional():
    first, *others = make_arms("all", "64")
    assert [arm.name for arm in others] == METHODS.names()
    assert (first.optional, {arm.optional for arm in others}) == (False, {True})


def test_a_folder_for_each_arm():
    arms = make_arms("zspaprune(relevance=word_max),grid", "1,0.5,1e-3")
    assert len({arm.folder for arm in arms}) == len(arms)
    assert all("/" not in arm.folder for arm in arms)


def test_what_cannot_be_used():
    for methods, keep, says in (
        ("gird", "64", "There is no method 'gird'"), ("grid", "64,64", "names a budget twice"), ("grid", "0", "keep"),
        ("grid,", "64", "is no method"), ("grid", "many", "'many' is no number"),
    ):  # fmt: skip
        with pytest.raises(FoveateError, match=says):
            make_arms(methods, keep)
    assert split_names("pope, gqa") == ["pope", "gqa"]
    for names in ("pope,,gqa", "pope,pope", ""):
        with pytest.raises(InputError, match="name each benchmark once"):
            split_names(names)

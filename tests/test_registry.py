from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

import foveate.registry
from foveate.errors import FoveateError, RegistryError, UnknownFamilyError, UnknownMethodError
from foveate.method.registry import METHODS
from foveate.method.zspaprune import ZSPAPrune
from foveate.models.registry import FAMILIES
from foveate.registry import Registry


def entry(name, value, package="somebody"):
    found = EntryPoint(name, value, "foveate.methods")
    vars(found)["dist"] = SimpleNamespace(name=package)
    return found


@pytest.fixture
def registry(monkeypatch):
    def make(*entries):
        monkeypatch.setattr(foveate.registry, "entry_points", lambda *, group: entries)
        return Registry("foveate.methods", {}, kind="method", unknown=UnknownMethodError)

    return make


def test_the_built_ins_are_there():
    assert {"zspaprune", "divprune", "cdpruner", "mmtok", "random", "grid"} <= set(METHODS.names())
    assert METHODS.names() == sorted(METHODS.names())
    assert METHODS.load("zspaprune") is ZSPAPrune
    assert {"llava", "qwen2_5_vl", "qwen3_vl"} <= set(FAMILIES.names())


def test_unknown_names_get_a_hint_and_the_list():
    with pytest.raises(UnknownMethodError, match="Did you mean 'zspaprune'") as caught:
        METHODS.load("zspa_prune")
    assert all(name in str(caught.value) for name in METHODS.names())
    with pytest.raises(UnknownFamilyError, match="no family 'gpt2'"):
        FAMILIES.load("gpt2")


def test_a_far_name_gets_no_hint(registry):
    with pytest.raises(UnknownMethodError) as caught:
        registry(entry("mine", "collections:Counter")).load("xyzzy")
    assert str(caught.value) == "There is no method 'xyzzy'. Available: mine."


def test_nothing_installed_says_so(registry):
    with pytest.raises(UnknownMethodError, match="install foveate again"):
        registry().load("zspaprune")


def test_a_plug_in_comes_through_the_same_door(registry):
    found = registry(entry("mine", "collections:Counter"), entry("also", "collections:OrderedDict"))
    assert found.names() == ["also", "mine"]
    assert found.load("mine").__name__ == "Counter"


def test_two_packages_claiming_a_name_is_an_error_that_names_both(registry):
    found = registry(
        entry("mine", "a:A", "first"), entry("mine", "b:B", "second"), entry("fine", "collections:Counter")
    )
    assert found.names() == ["fine", "mine"]
    with pytest.raises(RegistryError, match=r"first \(a:A\) and second \(b:B\)"):
        found.load("mine")
    assert found.load("fine")


def test_the_same_entry_seen_twice_is_no_clash(registry):
    assert registry(*[entry("mine", "collections:Counter")] * 2).load("mine").__name__ == "Counter"


def test_names_imports_nothing(registry):
    assert registry(entry("broken", "no.such.module:Thing")).names() == ["broken"]


@pytest.mark.parametrize("value", ["no.such.module:Thing", "collections:NoSuchThing"])
def test_a_plug_in_that_does_not_import_is_named(registry, value):
    with pytest.raises(RegistryError, match="'broken' of somebody could not be imported"):
        registry(entry("broken", value)).load("broken")


def test_a_plug_in_that_is_not_a_class_is_named(registry):
    with pytest.raises(RegistryError, match="name a class"):
        registry(entry("mine", "collections:abc")).load("mine")


def test_errors_share_a_root():
    assert issubclass(UnknownMethodError, FoveateError)
    assert issubclass(UnknownFamilyError, FoveateError)
    assert issubclass(RegistryError, FoveateError)


def test_metadata_of_another_foveate_is_not_read(monkeypatch):
    stale = entry("mine", "no.such.module:Thing", "foveate")
    monkeypatch.setattr(foveate.registry, "entry_points", lambda *, group: [stale])
    registry = Registry("foveate.methods", {"mine": "collections:Counter"}, kind="method", unknown=UnknownMethodError)
    assert registry.names() == ["mine"]
    assert registry.load("mine").__name__ == "Counter"

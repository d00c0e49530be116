import pytest

from foveate.apps.evaluate.arms import BlindEvalArm, InDecoderEvalArm, PrunedEvalArm, UnprunedEvalArm
from foveate.apps.evaluate.resized import ResizedEvalArm
from foveate.apps.evaluate.settings import make_arms, parse_budgets, parse_keeps, parse_methods
from foveate.conformance.batches import make_tiny_model
from foveate.errors import FoveateError, InputError, KeepError, UnknownMethodError
from foveate.method import resolve
from foveate.method.zspaprune import ZSPAPrune
from foveate.models import lookup
from foveate.policy import Policy
from policies import save_policy


def test_methods_with_fields():
    methods = parse_methods("zspaprune(core=0.5, relevance=word_max), divprune,zspaprune")
    assert list(methods) == ["zspaprune(core=0.5, relevance=word_max)", "divprune", "zspaprune"]
    assert methods["zspaprune(core=0.5, relevance=word_max)"] == ZSPAPrune(core=0.5, relevance="word_max")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("zspaprun", UnknownMethodError, "Did you mean 'zspaprune'"),
        ("zspaprune(nope=1)", InputError, "it has core, relevance"),
        ("zspaprune(core)", InputError, "no field 'core' to set"),
        ("zspaprune(core=2)", InputError, "core=2"),
        ("divprune(a=1)", InputError, "it has no fields"),
        ("a b c", InputError, "is no method"),
        (ZSPAPrune(), InputError, "is not a text: write names"),
        ("zspaprune,,divprune", InputError, "is no method"),
    ],
)
def test_bad_methods(text, error, message):
    with pytest.raises(error) as raised:
        parse_methods(text)
    assert message in str(raised.value)


def test_keeps():
    keeps = parse_keeps("0.5, 64,1.0")
    assert keeps == [0.5, 64, 1.0]
    assert [type(keep) for keep in keeps] == [float, int, float]


@pytest.mark.parametrize(
    ("text", "error"), [("x", InputError), ("0.5,0.5", InputError), ("0", KeepError), ("1.5", KeepError)]
)
def test_bad_keeps(text, error):
    with pytest.raises(error):
        parse_keeps(text)


def test_policies_stand_beside_budgets(tmp_path):
    path = save_policy(make_tiny_model(lookup.family("llava")), tmp_path, method="divprune")
    assert parse_budgets(f"0.5, 64,auto, {path}") == ([0.5, 64], {"auto": "auto", str(path): Policy.load(path)})
    assert parse_budgets("auto") == ([], {"auto": "auto"})
    _, policies = parse_budgets(f"auto,{path}")
    arms = make_arms({}, [], policies=policies)[2:]
    assert [arm.label for arm in arms] == ["foveate @ auto", f"divprune @ {path}"]
    assert [arm.method for arm in arms] == [resolve("foveate"), resolve("divprune")]
    for text in ("auto,auto", f"{path},0.1,{path}", "0.5,auto,0.5"):
        with pytest.raises(InputError, match="twice"):
            parse_budgets(text)


def test_what_always_stands_beside():
    arms = make_arms(parse_methods("divprune,fastv,grid"), [0.5, 4], positions="compact", max_new_tokens=3)
    assert len({arm.label for arm in arms}) == len(arms) == 2 + 2 * 7
    assert [type(arm) for arm in arms[:4]] == [UnprunedEvalArm, BlindEvalArm, ResizedEvalArm, PrunedEvalArm]
    assert [arm.seed for arm in arms if arm.name == "random" and arm.keep == 4] == [0, 1, 2]
    assert {arm.positions for arm in arms if isinstance(arm, PrunedEvalArm)} == {"compact"}
    assert {arm.max_new_tokens for arm in arms} == {3}
    assert sum(isinstance(arm, InDecoderEvalArm) for arm in arms) == 2
    assert not any(isinstance(arm, ResizedEvalArm) for arm in make_arms({}, [0.5], resize=False))


def test_the_blind_self_of_a_method_stands_behind_it():
    names = [
        arm.name for arm in make_arms(parse_methods("divprune,cdpruner,foveate,glance,foveate(focus=0),fastv"), [4])
    ]
    pairs = ["cdpruner", "cdpruner, blind", "foveate", "foveate, blind", "glance", "foveate(focus=0)", "fastv"]
    assert names[-8:] == ["divprune", *pairs]


def test_errors_are_ours():
    assert issubclass(KeepError, FoveateError)

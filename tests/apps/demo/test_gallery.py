from foveate.apps.demo.gallery import make_gallery
from foveate.world.questions import NUMBERS
from foveate.world.scenes import SHAPES


def test_its_answers_are_true():
    for scene in make_gallery():
        for question in scene.questions:
            form = question.text.removeprefix("how many ").partition(" are")[0]
            shape = {f"{name}s": name for name in SHAPES}.get(form)
            if shape:
                assert NUMBERS[sum(t.form == shape for t in scene.scene.things)] == question.answer


def test_it_depends_on_its_seed_alone():
    assert make_gallery() == make_gallery()
    assert make_gallery(0) != make_gallery(1)

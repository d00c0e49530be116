import numpy as np

from foveate.world.scenes import CHARTS, FORMS, GLYPHS, POPULARITY, Scene, Thing, sample_scene
from training.labels import CLASSES, IMAGE_LABELS, PLACE, make_patch_labels

SIGN = Thing("sign", "blue", 0.7, 0.75, 0.2, 0.1, "b4")
SCENE = Scene("scene", (Thing("square", "red", 0.25, 0.25, 0.1, 0.1), SIGN), 0, (192, 192))


def test_labels_say_what_was_drawn():
    labels = make_patch_labels(SCENE, 24, 24, 8)
    form, color, glyph, order = (getattr(labels, name).reshape(24, 24) for name in ("form", "color", "glyph", "order"))
    assert form[6, 6] == FORMS.index("square") + 1
    assert color[6, 6] == list(POPULARITY).index("red") + 1
    assert form[18, 14] == FORMS.index("sign") + 1
    assert form[6, 14] == form[0, 0] == 0
    assert glyph[6, 6] == 0
    read = [(GLYPHS[g - 1], o) for g, o in zip(glyph[18], order[18], strict=True) if g]
    assert list(dict.fromkeys(read)) == [("b", 1), ("4", 2)]
    here = np.array([14.5, 18.5]) / 24
    expected = 4 * np.array([0.7, 0.75, 0.7 - here[0], 0.75 - here[1], 0.2, 0.1])
    assert np.allclose(labels.place.reshape(24, 24, PLACE)[18, 14], expected)
    assert not labels.place.reshape(24, 24, PLACE)[0, 0].any()
    assert labels.image.shape == (IMAGE_LABELS,)
    assert labels.image.sum() == 2 + 2 + 1


def test_labels_are_within_their_classes_on_any_raster():
    for kind in ("scene", *CHARTS):
        for index in range(20):
            labels = make_patch_labels(sample_scene(0, index, kind), 22, 28, 8)
            for name, size in CLASSES.items():
                values = getattr(labels, name)
                assert values.shape == (22 * 28,)
                assert 0 <= values.min() <= values.max() < size
            assert (labels.form > 0).any()
            assert ((labels.glyph > 0) == (labels.order > 0)).all()
            assert (labels.form[labels.glyph > 0] > 0).all()

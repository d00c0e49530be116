"""Which turn of a dialog asks."""

from foveate.models.turns import Dialog, Turn

TURNS = [
    Turn(0, 3, is_user=False, words=[1, 2]),
    Turn(3, 6, is_user=True, words=[4, 5]),
    Turn(6, 9, is_user=False, words=[7]),
    Turn(9, 12, is_user=True, words=[10]),
    Turn(12, 15, is_user=True, words=[]),
]


def test_the_users_last_turn_with_words_asks():
    assert Dialog(TURNS).find_question() == [10]
    assert Dialog(TURNS[:3]).find_question() == [4, 5]
    assert Dialog(TURNS[4:]).find_question() == []
    assert Dialog(TURNS[:1]).find_question() == []
    assert Dialog([]).find_question() == []


def test_an_image_is_asked_about_in_the_first_turn_that_ends_behind_it():
    expected = [[4, 5]] * 6 + [[10]] * 9  # a turn's end is not its own; behind the last words the last ones ask
    assert [Dialog(TURNS).find_question(image) for image in range(15)] == expected
    assert Dialog(TURNS[:1]).find_question(0) == []

import math

import numpy as np
import pytest

from foveate.errors import InputError
from foveate.method import checks


def test_ints_and_numbers():
    for value in (3, -3, np.int32(3), 10**30):
        assert checks.is_int(value)
        assert checks.is_number(value)
    for value in (3.0, math.nan, np.float16(3)):
        assert not checks.is_int(value)
        assert checks.is_number(value)
    for value in (True, np.True_, "3", None, 3j, [3]):
        assert not checks.is_int(value)
        assert not checks.is_number(value)


CHECKS = {
    "share": (checks.check_share, (), "float in [0, 1]", [0, 0.3, 1, np.float32(0.5)], [-0.01, 1.01, math.nan]),
    "between": (checks.check_between, (-1, 2.5), "float from -1 to 2.5", [-1, 0, 2.5], [-1.01, 2.51, math.nan]),
    "positive": (checks.check_positive, (), "float above 0", [1e-9, 3], [0, -1, math.inf, math.nan]),
    "not negative": (checks.check_not_negative, (), "float of 0 or more", [0, 1e-9, 3], [-1e-9, math.inf, math.nan]),
    "int": (checks.check_int, (2,), "int of 2 or more", [2, 3, np.int64(7)], [1, -5, 2.0, math.inf]),
}


@pytest.mark.parametrize(("check", "arguments", "fix", "good", "bad"), CHECKS.values(), ids=CHECKS)
def test_a_check_accepts_its_range_and_names_it(check, arguments, fix, good, bad):
    for value in good:
        check("alpha", value, *arguments)
    for value in [*bad, True, "1", None]:
        with pytest.raises(InputError) as caught:
            check("alpha", value, *arguments)
        assert str(caught.value).startswith(f"alpha={value!r} is ")
        assert fix in str(caught.value)

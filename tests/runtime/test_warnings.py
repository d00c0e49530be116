import warnings

import pytest

from foveate.errors import FoveateWarning
from foveate.runtime.warnings import collect_warnings


def test_each_sentence_once_and_those_of_others_go_on():
    with warnings.catch_warnings(record=True) as others:
        warnings.simplefilter("always")
        with collect_warnings() as notes:
            for text in ("one", "two", "one"):
                warnings.warn(text, FoveateWarning, stacklevel=1)
            warnings.warn("strange", UserWarning, stacklevel=1)
            assert notes == []
    assert notes == ["one", "two"]
    assert [str(warning.message) for warning in others] == ["strange"]


def test_an_error_loses_no_filter():
    before = list(warnings.filters)
    with pytest.raises(KeyError), collect_warnings():
        raise KeyError
    assert warnings.filters == before

"""Which logits of the shorter sequence are those that the caller wants."""

import pytest
import torch

from foveate.errors import InputError
from foveate.models.sequence import lay_out
from foveate.pipeline.shorten import map_logits

# One row of six columns, of which columns 2 and 3 are dropped.
LAYOUT = lay_out(torch.ones(1, 6).long(), torch.tensor([[True, True, False, False, True, True]]))


@pytest.mark.parametrize("keep", [0, 1, 2, 6, 9])
def test_a_number_counts_from_the_end(keep):
    assert map_logits(keep, LAYOUT) == keep


@pytest.mark.parametrize("keep", [3, 5])
def test_a_number_that_reaches_dropped_columns_is_refused(keep):
    with pytest.raises(InputError, match="asks for columns of dropped visual tokens"):
        map_logits(keep, LAYOUT)


@pytest.mark.parametrize("keep", [torch.tensor([1, 4, 5]), slice(4, 6), [0, 5]])
def test_an_index_selects_columns(keep):
    columns = {1: 1, 4: 2, 5: 3, 0: 0}
    expected = [columns[column] for column in torch.arange(6)[keep].tolist()]
    assert map_logits(keep, LAYOUT).tolist() == expected

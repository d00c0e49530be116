"""Fixtures of the tests of whole runs."""

import pytest

from apps.batch.drawn import draw, write_lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("questions")


@pytest.fixture(scope="module")
def rows(request, folder):
    """As many as the test file's COUNT, in q.jsonl too."""
    drawn = draw(folder, request.module.COUNT)
    write_lines(folder / "q.jsonl", drawn)
    return drawn

import pytest

from demo_client import running_demo


@pytest.fixture(scope="module")
def demo(bundled):
    with running_demo(bundled) as demo:
        yield demo


@pytest.fixture(scope="module")
def tiny_demo(tiny):
    with running_demo(tiny) as demo:
        yield demo

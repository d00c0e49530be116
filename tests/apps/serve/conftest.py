import openai
import pytest

from foveate.apps.serve.app import make_app
from foveate.apps.serve.settings import ServeSettings
from served import PATIENCE, running_app


@pytest.fixture(scope="module")
def server(bundled):
    """The bundled model with the default settings."""
    app = make_app(bundled, ServeSettings())
    with running_app(app) as server:
        server.app, server.model = app, "bundled"
        yield server


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE) as client:
        yield client

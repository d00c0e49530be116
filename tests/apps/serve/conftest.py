import pytest

from foveate.apps.serve.app import make_app
from foveate.apps.serve.settings import Settings
from served import running


@pytest.fixture(scope="module")
def server(bundled):
    """The bundled model behind the default settings."""
    app = make_app(bundled, Settings())
    with running(app) as found:
        found.app, found.model = app, "bundled"
        yield found

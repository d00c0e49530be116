"""A client of a running demo, for tests."""

import json
from contextlib import contextmanager

import httpx

from foveate.apps.demo.app import METHOD, make_demo_app
from foveate.apps.demo.gallery import make_gallery
from served import PATIENCE, data_url, running_app


class DemoClient:
    """A running demo: its `url`, `worker` and `session`, and requests to it."""

    def __init__(self, app, server):
        self.app, self.url, self.on_loop = app, server.url, server.on_loop
        self.worker, self.session = app.state.worker, app.state.session

    def get(self, path, **more):
        return httpx.get(f"{self.url}{path}", timeout=PATIENCE, trust_env=False, **more)

    def post(self, path, request, **more):
        return httpx.post(f"{self.url}{path}", json=request, timeout=PATIENCE, trust_env=False, **more)

    def ask(self, **more):
        """All events of one question."""
        response = self.post("/ask", make_body(**more))
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) for line in response.text.splitlines()]


SCENE = make_gallery()[0]
FILE, QUESTION = SCENE.to_png(), SCENE.questions[0].text


def make_body(**more):
    """A request about the first scene of the gallery."""
    return {"image": data_url(FILE), "question": QUESTION, "keep": 0.1, "method": METHOD, **more}


@contextmanager
def running_demo(loaded, **options):
    app = make_demo_app(loaded, **options)
    with running_app(app) as server:
        yield DemoClient(app, server)

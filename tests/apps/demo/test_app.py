"""The demo's routes over real HTTP in this process, its static files, and how it starts."""

import json
import re
import threading

import httpx
import pytest
from PIL import Image

import foveate
from demo_client import FILE, SCENE, make_body, running_demo
from foveate.apps import cli
from foveate.apps.demo import app as demo_app, session
from foveate.apps.demo.app import STATIC, make_demo_app, serve_demo
from foveate.apps.demo.gallery import THEMES, make_gallery
from foveate.apps.serve.run import bind
from foveate.errors import InputError
from foveate.models import family_of
from foveate.pipeline.encode import list_methods
from policies import make_policy, ship
from served import PATIENCE, busy, data_url, paused_model, running_app, to_file, wait_for

# -- static files --------------------------------------------------------------------------------------------------


def test_the_page_is_served(demo):
    response = demo.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("path", sorted(STATIC.iterdir()), ids=lambda path: path.name)
def test_files_are_served_and_name_no_other_address(demo, path):
    kinds = {".js": "javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
    response = demo.get(f"/static/{path.name}")
    assert response.status_code == 200
    assert kinds[path.suffix] in response.headers["content-type"]
    assert "http" not in path.read_text().replace("http://www.w3.org/2000/svg", "")
    assert f"/static/{path.name}" in demo.get("/").text or path.suffix in (".js", ".html")


def test_nothing_is_inline():
    html = (STATIC / "index.html").read_text()
    assert "style=" not in html
    assert "<style" not in html
    assert not re.search(r"\son\w+=", html)
    assert html.count("<script") == html.count('<script type="module" src=')


@pytest.mark.parametrize("path", sorted(STATIC.glob("*.js")), ids=lambda path: path.name)
def test_no_script_parses_markup_or_stores_anything(path):
    script = path.read_text()
    for never in ("innerHTML", "outerHTML", "insertAdjacent", "eval(", "localStorage", "sessionStorage", "cookie"):
        assert never not in script


@pytest.mark.parametrize(
    ("verb", "path", "request_body"),
    [
        ("GET", "/", None), ("GET", "/static/page.js", None), ("GET", "/scenes", None), ("GET", "/nothing", None),
        ("POST", "/look", make_body()), ("POST", "/look", {}), ("POST", "/ask", make_body()),
    ],
)  # fmt: skip
def test_every_response_has_the_security_headers(demo, verb, path, request_body):
    response = demo.get(path) if verb == "GET" else demo.post(path, request_body)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"


# -- the model and the gallery -------------------------------------------------------------------------------------


def test_about_the_model(demo):
    about = demo.get("/about").json()
    assert (about["model"], about["method"], about["keep"]) == ("bundled", "foveate", 0.1)
    assert about["limits"] == {"bytes": 20 * 2**20, "pixels": 25 * 10**6}
    names = [row["name"] for row in about["methods"]]
    own = [row.name for row in foveate.methods() if row.prunes == "input" and "cross_attention" not in row.needs]
    assert names == own  # its tower has a [CLS]
    assert all(row["summary"] and row["paper"] for row in about["methods"])


def test_auto_is_the_policy_that_comes_with_the_model(tiny, monkeypatch, tmp_path):
    ship(monkeypatch, tmp_path, make_policy(tiny.model))
    with running_demo(tiny) as demo:
        auto = demo.get("/about").json()["auto"]
        assert auto["method"] == "foveate"
        assert auto["note"].startswith("auto: at most 1 % of the answers differ from the unpruned ones, with 95 %")
        assert demo.post("/look", make_body(keep="auto")).json()["kept"] == 4


def test_without_a_policy_there_is_no_auto(tiny_demo):
    auto = tiny_demo.get("/about").json()["auto"]
    assert auto["method"] is None
    assert "No auto: no policy comes with this model. Make one with foveate calibrate" in auto["note"]
    response = tiny_demo.post("/look", make_body(keep="auto"))
    assert (response.status_code, "none comes with it" in response.json()["error"]) == (400, True)


def test_a_policy_is_for_its_method(tiny):
    with running_demo(tiny, policy=make_policy(tiny.model)) as demo:
        for path in ("/look", "/ask"):
            response = demo.post(path, make_body(keep="auto", method="grid"))
            assert response.status_code == 400
            assert "calibrated with method='foveate', not 'grid'" in response.json()["error"]


def test_a_policy_of_another_model_is_refused_at_the_start(tiny, bundled):
    with pytest.raises(InputError, match="calibrated on another model"):
        make_demo_app(tiny, policy=make_policy(bundled.model))
    with pytest.raises(InputError, match="calibrated with positions='compact'"):
        make_demo_app(tiny, policy=make_policy(tiny.model, positions="compact"))


@pytest.mark.parametrize("text", [None, "", "[]", '{"format": "foveate policy 0"}'])
def test_a_file_that_is_no_policy_is_refused_before_the_model_is_loaded(capsys, monkeypatch, tmp_path, text):
    monkeypatch.setattr("foveate.runtime.load.load", None)
    if text is not None:
        (tmp_path / "mine.policy.json").write_text(text)
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo", "--policy", str(tmp_path / "mine.policy.json"), "--port", "0"])
    captured = capsys.readouterr()
    assert (stop.value.code, captured.out, captured.err.count("\n")) == (2, "", 1)
    assert "mine.policy.json" in captured.err
    assert "make one with foveate calibrate" in captured.err


def test_methods_that_the_tower_cannot_serve_are_not_available():
    from foveate.runtime.load import load, quiet

    with quiet():
        model = load("bundled-qwen").model
    names = {row.name for row in list_methods(model, family_of(model))}
    assert {"foveate", "glance", "zspaprune", "divprune"} <= names
    assert not names & {"visionzip", "holov", "fastv", "sparsevlm"}


def test_the_gallery_is_listed(demo):
    scenes = demo.get("/scenes").json()
    assert [scene["title"] for scene in scenes] == [theme[0] for theme in THEMES]
    for number, scene in enumerate(scenes):
        assert 2 <= len({q["text"] for q in scene["questions"]}) == len(scene["questions"]) <= 4
        file = demo.get(scene["image"])
        assert file.headers["content-type"] == "image/png"
        assert file.content == make_gallery()[number].to_png()
    assert demo.get(f"/scenes/{len(scenes)}.png").status_code == 404


@pytest.mark.parametrize("path", ["/scenes/x.png", "/scenes/99.png", "/scenes/-1.png"])
def test_images_that_are_no_scene(demo, path):
    response = demo.get(path)
    assert response.status_code == 404
    assert set(response.json()) == {"error"}


# -- several clients -----------------------------------------------------------------------------------------------


def test_a_client_that_leaves_frees_the_model(tiny_demo, tiny):
    tiny_demo.post("/look", make_body(question="what color is it"))  # after the warm-up
    with paused_model(tiny.model, 5) as pause:
        request = make_body(question="what color is it")
        stream = httpx.stream("POST", f"{tiny_demo.url}/ask", json=request, timeout=PATIENCE, trust_env=False)
        with stream as response:
            lines = response.iter_lines()  # kept, since a freed iterator closes the connection
            assert json.loads(next(lines))["type"] == "look"
            assert pause.reached.wait(PATIENCE)
            assert tiny_demo.worker.count_jobs()[0] == 1
        wait_for(lambda: tiny_demo.worker.count_jobs() == (0, 0))


def test_two_questions_at_once(demo):
    answers = {}
    other = make_gallery()[4]

    def ask(name, **more):
        events = demo.ask(**more)
        pieces = [e["text"] for e in events if e["type"] == "piece" and e["answer"] == "unpruned"]
        answers[name] = "".join(pieces).strip()

    with busy(demo, demo.worker):
        more = {"image": data_url(other.to_png()), "question": other.questions[0].text}
        threads = [
            threading.Thread(target=ask, args=["first"]),
            threading.Thread(target=ask, args=["second"], kwargs=more),
        ]
        for thread in threads:
            thread.start()
        wait_for(lambda: demo.worker.count_jobs() == (1, 2))
    for thread in threads:
        thread.join(PATIENCE)
    assert answers == {"first": SCENE.questions[0].answer, "second": other.questions[0].answer}


def test_a_full_queue(demo):
    with busy(demo, demo.worker):
        waiting = [threading.Thread(target=demo.post, args=["/look", make_body()]) for _ in range(demo.worker.limit)]
        for thread in waiting:
            thread.start()
        wait_for(lambda: demo.worker.count_jobs() == (1, demo.worker.limit))
        response = demo.post("/ask", make_body())
        assert response.status_code == 503
        assert "busy" in response.json()["error"]
    for thread in waiting:
        thread.join(PATIENCE)


# -- refusals ------------------------------------------------------------------------------------------------------

WIDE = data_url(to_file(Image.new("1", (5001, 5000))))
WRONG = {
    "no image": ({"image": ""}, 400, "data URL"),
    "an address": ({"image": "http://127.0.0.1/x.png"}, 400, "data URL"),
    "another file": ({"image": data_url(b"hello")}, 400, "no readable image"),
    "a damaged image": ({"image": data_url(FILE[: len(FILE) // 2])}, 400, "damaged"),
    "too many pixels": ({"image": WIDE}, 413, "pixels"),
    "no question": ({"question": "  "}, 400, "question"),
    "a question with a placeholder": ({"question": "<image>?"}, 400, "<image>"),
    "a long question": ({"question": "a" * 2001}, 400, "question"),
    "nothing kept": ({"keep": 0}, 400, "keep"),
    "more than all": ({"keep": 1.5}, 400, "keep"),
    "text for a number": ({"keep": "0.1"}, 400, 'keep: give a share of the tokens above 0 (0.1), 1 for all, or "auto"'),
    "a file for a number": ({"keep": "mine.policy.json"}, 400, "keep: give a share"),
    "a list for a number": ({"keep": ["auto"]}, 400, "keep: give a share"),
    "an unknown method": ({"method": "magic"}, 400, "foveate"),
    "a method for the decoder": ({"method": "fastv"}, 400, "fastv"),
    "an unknown field": ({"seed": 1}, 400, "seed"),
}


@pytest.mark.parametrize("path", ["/look", "/ask"])
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_is_refused_with_a_reason(demo, path, name):
    more, status, word = WRONG[name]
    response = demo.post(path, make_body(**more))
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    assert word in response.json()["error"]


@pytest.mark.parametrize(
    ("path", "compare", "words"),
    [
        ("/ask", {"keep": 0.1, "method": "magic"}, "no method 'magic' here"),
        ("/ask", {"keep": 0, "method": "grid"}, "compare.keep: give a share"),
        ("/ask", {"keep": 0.1}, "compare.method"), ("/ask", "grid", "compare: give an object"),
        ("/ask", {"keep": 0.1, "method": "grid", "seed": 1}, "compare.seed"),
        ("/look", {"keep": 0.1, "method": "grid"}, "compare: it has no effect here"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared(demo, path, compare, words):
    response = demo.post(path, make_body(compare=compare))
    assert (response.status_code, words in response.json()["error"]) == (400, True), response.text


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"{", "application/json", 400), (b"[]", "application/json", 400), (b"{}", "text/plain", 415),
        (b" " * (20 * 2**20 + 1), "application/json", 413),
    ],
    ids=["cut", "a list", "text", "too large"],
)  # fmt: skip
def test_other_bodies(demo, content, media_type, status):
    headers = {"Content-Type": media_type}
    url = f"{demo.url}/look"
    response = httpx.post(url, content=content, headers=headers, timeout=PATIENCE, trust_env=False)
    assert response.status_code == status
    assert list(response.json()) == ["error"]


def test_a_prompt_longer_than_the_context(demo, bundled, monkeypatch):
    monkeypatch.setattr(bundled.model.config.get_text_config(), "max_position_embeddings", 580)
    assert demo.post("/look", make_body()).status_code == 200  # nothing is generated
    response = demo.post("/ask", make_body())
    assert response.status_code == 400
    assert "shorter" in response.json()["error"]


def fail(*_, **__):
    raise RuntimeError("a secret")


def test_a_failure_is_reported_without_details(demo, monkeypatch):
    monkeypatch.setattr(session, "prune_prompt", fail)
    response = demo.post("/ask", make_body())
    assert response.status_code == 500
    assert "secret" not in response.text


def test_a_failure_during_an_answer_is_the_last_line(demo, monkeypatch):
    monkeypatch.setattr(session, "generate_answer", fail)
    first, last = demo.ask()
    assert first["type"] == "look"
    assert last["type"] == "error"
    assert "secret" not in last["error"]


@pytest.mark.parametrize("path", ["/nothing", "/static/nothing.js", "/static/../page.py"])
def test_unknown_paths(demo, path):
    assert demo.get(path).status_code == 404


def test_a_wrong_verb(demo):
    response = demo.get("/look")
    assert response.status_code == 405
    assert list(response.json()) == ["error"]


# -- the process ---------------------------------------------------------------------------------------------------


def test_the_url_is_printed_and_opened(bundled, monkeypatch, capsys):
    served, opened = [], threading.Event()
    monkeypatch.setattr(demo_app, "serve", lambda app, listener, **_: served.append(app))
    monkeypatch.setattr(demo_app.webbrowser, "open", lambda url: opened.set())
    with bind("127.0.0.1", 0) as listener:
        serve_demo(bundled, listener)
        assert not opened.is_set()
        serve_demo(bundled, listener, open_browser=True)
        assert opened.wait(PATIENCE)
        assert f"http://127.0.0.1:{listener.getsockname()[1]}" in capsys.readouterr().out
    for app in served:
        app.state.worker.close()


def test_a_failed_warm_up_is_logged_and_the_demo_goes_on(bundled, monkeypatch):
    logged = []
    monkeypatch.setattr(demo_app.log, "exception", logged.append)
    with monkeypatch.context() as cold:
        cold.setattr(session.DemoSession, "ask", fail)
        with running_demo(bundled) as demo:
            wait_for(lambda: logged)
            assert "first scene" in logged[0]
            assert demo.post("/look", make_body()).status_code == 200


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--host", "999.1.1.1"), "--host"), (("--model", "no/such/folder"), "no/such/folder"),
        (("--port", "70000"), "port"), (("--typo",), "--typo"),
    ],
)  # fmt: skip
def test_wrong_options(options, words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo", "--port", "0", *options])
    assert stop.value.code == 2
    output = capsys.readouterr().err
    assert words in output
    assert output.count("\n") == 1


def test_a_port_in_use(capsys):
    with bind("127.0.0.1", 0) as listener, pytest.raises(SystemExit):
        cli.main(["demo", "--port", str(listener.getsockname()[1])])
    assert "cannot be listened on" in capsys.readouterr().err


# -- host names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "status"), [("desk.example:7860", 200), ("localhost", 200), ("other.example", 400)])
def test_the_name_that_the_user_typed_is_served(bundled, host, status):
    with running_app(make_demo_app(bundled, bound=("127.0.0.1", "Desk.example"))) as server:
        response = httpx.get(f"{server.url}/about", headers={"Host": host}, timeout=PATIENCE, trust_env=False)
    assert response.status_code == status
    if status == 400:
        message = "This server is not at that address: use Desk.example, or start it with --allowed-host NAME."
        assert response.json() == {"error": message}


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1", ""]
)
def test_other_host_names_are_refused(demo, host):
    """A page elsewhere can point its own name here (DNS rebinding)."""
    response = demo.get("/", headers={"Host": host})
    assert response.status_code == 400
    assert "error" in response.json()


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:7860", "127.0.0.1:7860", "[::1]:7860", "[::1]"])
def test_names_of_this_machine_are_served(demo, host):
    assert demo.get("/", headers={"Host": host}).status_code == 200

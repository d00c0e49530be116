import base64
import json
import re
import threading
from contextlib import contextmanager
from io import BytesIO

import httpx
import pytest
import torch
from PIL import Image

import foveate
from foveate import viz
from foveate.apps import cli
from foveate.apps.ask import ask
from foveate.apps.demo import desk
from foveate.apps.demo.app import METHOD, STATIC, make_page, methods_for, serve_page
from foveate.apps.demo.desk import REMEMBERED, Spent, saved
from foveate.apps.demo.guard import LOCAL, allowed
from foveate.apps.demo.scenes import THEMES, exhibits
from foveate.apps.serve.run import bind
from foveate.runtime.conversation import make_inputs
from foveate.runtime.files import decode_image
from foveate.world.questions import NUMBERS
from foveate.world.scenes import SHAPES
from served import blocked, data_url, packed, running, wait_for


@contextmanager
def paged(loaded):
    app = make_page(loaded)
    with running(app) as found:
        found.app = app
        found.worker, found.desk = app.state.worker, app.state.desk
        yield found


@pytest.fixture(scope="module")
def page(bundled):
    with paged(bundled) as found:
        yield found


@pytest.fixture(scope="module")
def tiny_page(tiny):
    with paged(tiny) as found:
        yield found


EXHIBIT = exhibits()[0]
FILE, QUESTION = EXHIBIT.png(), EXHIBIT.questions[0].text


def wish(**more):
    return {"picture": data_url(FILE), "question": QUESTION, "keep": 0.1, "method": METHOD, **more}


def post(page, path, given, **more):
    return httpx.post(f"{page.url}{path}", json=given, timeout=60, trust_env=False, **more)


def get(page, path, **more):
    return httpx.get(f"{page.url}{path}", timeout=60, trust_env=False, **more)


def asked(page, **more):
    response = post(page, "/ask", wish(**more))
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


def text(events, which):
    return "".join(e["text"] for e in events if e["type"] == "piece" and e["answer"] == which).strip()


def picture(url):
    return Image.open(BytesIO(base64.b64decode(url.partition(",")[2])))


# -- what is there -------------------------------------------------------------------------------------------------


def test_the_page_and_its_files_are_served_and_name_nothing_elsewhere(page):
    html = get(page, "/")
    assert html.status_code == 200
    assert html.headers["content-type"].startswith("text/html")
    kinds = {".js": "javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
    for path in STATIC.iterdir():
        found = get(page, f"/static/{path.name}")
        assert found.status_code == 200
        assert kinds[path.suffix] in found.headers["content-type"]
        assert "http" not in path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert f"/static/{path.name}" in html.text or path.suffix in (".js", ".html")


def test_nothing_is_inline():
    html = (STATIC / "index.html").read_text()
    assert "style=" not in html
    assert "<style" not in html
    assert not re.search(r"\son\w+=", html)
    assert html.count("<script") == html.count('<script type="module" src=')


def test_no_script_reads_markup_or_keeps_anything():
    for path in STATIC.glob("*.js"):
        words = path.read_text()
        for never in ("innerHTML", "outerHTML", "insertAdjacent", "eval(", "localStorage", "sessionStorage", "cookie"):
            assert never not in words, path


def test_every_answer_says_what_may_be_loaded(page):
    responses = [get(page, "/"), get(page, "/static/page.js"), get(page, "/scenes"), get(page, "/nothing")]
    responses += [post(page, "/look", wish()), post(page, "/look", {}), post(page, "/ask", wish())]
    for response in responses:
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"


def test_about_the_model(page, bundled):
    about = get(page, "/about").json()
    assert (about["model"], about["method"], about["keep"]) == ("bundled", "foveate", 0.1)
    assert about["limits"] == {"bytes": 20 * 2**20, "pixels": 25 * 10**6}
    names = [row["name"] for row in about["methods"]]
    assert names == [row.name for row in foveate.methods() if row.prunes == "input"]  # its tower has a [CLS]
    assert all(row["summary"] and row["paper"] for row in about["methods"])


def test_methods_that_need_what_the_tower_has_not_are_not_offered():
    from foveate.runtime.load import load, quiet

    with quiet():
        names = {row.name for row in methods_for(load("bundled-qwen"))}
    assert {"foveate", "zspaprune", "divprune"} <= names
    assert not names & {"visionzip", "holov", "fastv", "sparsevlm"}


def test_the_gallery(page):
    scenes = get(page, "/scenes").json()
    assert [scene["title"] for scene in scenes] == [theme[0] for theme in THEMES]
    for number, scene in enumerate(scenes):
        assert 2 <= len({q["text"] for q in scene["questions"]}) == len(scene["questions"]) <= 4
        file = get(page, scene["picture"])
        assert file.headers["content-type"] == "image/png"
        assert file.content == exhibits()[number].png()
    for wrong in ("-1", str(len(scenes))):
        assert get(page, f"/scenes/{wrong}.png").status_code == 404


def test_the_gallery_s_answers_are_true():
    for exhibit in exhibits():
        for question in exhibit.questions:
            form = question.text.removeprefix("how many ").partition(" are")[0]
            shape = {f"{name}s": name for name in SHAPES}.get(form)
            if shape:
                assert NUMBERS[sum(t.form == shape for t in exhibit.scene.things)] == question.answer


def test_the_gallery_follows_from_its_seed():
    assert exhibits() == exhibits()
    assert exhibits(0) != exhibits(1)


# -- looking -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "method"), [(0.1, "foveate"), (0.02, "zspaprune"), (0.3, "visionzip"), (1, "grid")])
def test_a_look_is_prune_inputs(page, bundled, keep, method):
    seen = post(page, "/look", wish(keep=keep, method=method)).json()
    image = decode_image(FILE)
    with torch.no_grad():
        inputs = make_inputs(bundled, [image], [QUESTION])
        report = foveate.prune_inputs(bundled.model, inputs, keep=float(keep), method=method, explain=True).report
    assert (seen["kept"], seen["total"], seen["method"]) == (len(report.kept[0]), 576, method)
    if keep < 1:
        assert seen["core"] == int(report.core[0].sum())
        assert seen["core"] + seen["complement"] == seen["kept"]
    else:
        assert seen["core"] is seen["complement"] is None
    want = viz.draw(image, report, processor=bundled.processor, legend=False)
    assert picture(seen["overlay"]).tobytes() == want.tobytes()


def test_the_encoder_runs_once_a_picture_and_need(bundled, monkeypatch):
    with paged(bundled) as page:
        wait_for(lambda: page.worker.load() == (0, 0))  # warm
        runs = []
        real = desk.encode
        monkeypatch.setattr(desk, "encode", lambda *given, **more: runs.append(1) or real(*given, **more))
        other = data_url(exhibits()[1].png())

        def looks(*wishes):
            runs.clear()
            for each in wishes:
                assert post(page, "/look", each).status_code == 200
            return len(runs)

        assert looks(wish(picture=other), wish(picture=other, keep=0.5), wish(picture=other, question="a star?")) == 1
        assert looks(wish(picture=other, method="divprune")) == 0
        assert looks(wish(picture=other, method="vispruner"), wish(picture=other, method="vispruner")) == 1
        assert looks(wish(picture=other), wish(picture=other, method="vispruner")) == 0
        more = [wish(picture=data_url(exhibit.png())) for exhibit in exhibits()[2 : 2 + REMEMBERED]]
        assert looks(*more) == REMEMBERED
        assert len(page.desk._shown) == REMEMBERED
        assert looks(wish(picture=other)) == 1  # forgotten meanwhile


def test_what_should_be_known_is_noted(page):
    seen = post(page, "/look", wish(method="grid")).json()
    assert seen["notes"] == []


# -- asking --------------------------------------------------------------------------------------------------------


def test_answers_come_in_order(page):
    kinds = [(event["type"], event.get("answer")) for event in asked(page)]
    short = [kind for i, kind in enumerate(kinds) if kind not in kinds[:i]]
    want = [("look", None)]
    want += [(kind, which) for which in ("pruned", "unpruned") for kind in ("piece", "cost")]
    assert short == [*want, ("saved", None)]
    assert kinds.count(("cost", "pruned")) == kinds.count(("cost", "unpruned")) == kinds.count(("saved", None)) == 1


@pytest.mark.parametrize("method", ["foveate", "prumerge"])
@pytest.mark.parametrize("number", [0, 3, 4])
def test_the_answers_are_those_of_ask(page, bundled, number, method):
    exhibit = exhibits()[number]
    question = exhibit.questions[0].text
    events = asked(page, picture=data_url(exhibit.png()), question=question, keep=0.2, method=method)
    want = ask(bundled, decode_image(exhibit.png()), question, keep=0.2, method=method)
    assert text(events, "pruned") == want.answer
    assert text(events, "unpruned") == want.answer_unpruned
    costs = {event["answer"]: event["cost"] for event in events if event["type"] == "cost"}
    assert costs["pruned"]["kv_bytes"] == want.pruned.kv_bytes
    assert costs["unpruned"]["kv_bytes"] == want.unpruned.kv_bytes


def test_costs_add_up(page):
    events = asked(page)
    look = events[0]
    pruned, unpruned = (event["cost"] for event in events if event["type"] == "cost")
    for cost in (pruned, unpruned):
        assert cost["first_token"] == pytest.approx(cost["encode"] + cost["select"] + cost["prefill"])
        assert cost["seconds"] > cost["first_token"]
        assert cost["encode"] > 0
    assert pruned["encode"] == unpruned["encode"]  # one run, counted for both
    assert pruned["select"] > 0 == unpruned["select"]
    assert (pruned["visual_tokens"], unpruned["visual_tokens"]) == (look["kept"], look["total"])
    assert pruned["tokens"] == look["tokens"]
    assert unpruned["tokens"] - pruned["tokens"] == look["total"] - look["kept"]
    ratios = events[-1]["saved"]
    assert ratios["visual_tokens"] == pytest.approx(576 / 58)
    assert ratios["first_token"] == pytest.approx(unpruned["first_token"] / pruned["first_token"])


def test_what_took_nothing_has_no_ratio():
    small = Spent(1, 2, 0.0, 1.0, 2.0, 3.0, 4.0, 5, 6)
    large = Spent(2, 3, 0.0, 0.0, 4.0, 4.0, 6.0, 10, 6)
    assert saved(small, large) == {
        "visual_tokens": 2.0, "tokens": 1.5, "prefill": 2.0, "first_token": 4 / 3, "seconds": 1.5, "kv_bytes": 2.0,
    }  # fmt: skip


def test_an_answer_without_end_ends(tiny_page):
    events = asked(tiny_page, question="what color is it")
    assert [event["reason"] for event in events if event["type"] == "cost"] == ["length"] * 2
    assert events[-1]["type"] == "saved"


def test_who_leaves_frees_the_model(tiny_page):
    url = f"{tiny_page.url}/ask"
    with httpx.stream("POST", url, json=wish(question="what color is it"), timeout=60, trust_env=False) as response:
        lines = response.iter_lines()
        assert json.loads(next(lines))["type"] == "look"
        assert tiny_page.worker.load()[0] == 1
    wait_for(lambda: tiny_page.worker.load() == (0, 0))


def test_two_at_once_wait_for_each_other(page):
    found = {}
    exhibit = exhibits()[4]

    def one(name, **more):
        found[name] = text(asked(page, **more), "unpruned")

    with blocked(page, page.worker):
        threads = [
            threading.Thread(target=one, args=["first"]),
            threading.Thread(
                target=one,
                args=["second"],
                kwargs={"picture": data_url(exhibit.png()), "question": exhibit.questions[0].text},
            ),
        ]
        for thread in threads:
            thread.start()
        wait_for(lambda: page.worker.load() == (1, 2))
    for thread in threads:
        thread.join(30)
    assert found == {"first": EXHIBIT.questions[0].answer, "second": exhibit.questions[0].answer}


# -- what is refused -----------------------------------------------------------------------------------------------

WIDE = data_url(packed(Image.new("1", (5001, 5000))))
WRONG = {
    "no picture": ({"picture": ""}, 400, "data URL"),
    "a place": ({"picture": "http://127.0.0.1/x.png"}, 400, "data URL"),
    "a file that is no picture": ({"picture": data_url(b"hello")}, 400, "no picture"),
    "a damaged picture": ({"picture": data_url(FILE[: len(FILE) // 2])}, 400, "damaged"),
    "too many pixels": ({"picture": WIDE}, 413, "pixels"),
    "no question": ({"question": "  "}, 400, "question"),
    "a question with a placeholder": ({"question": "<image>?"}, 400, "<image>"),
    "a long question": ({"question": "a" * 2001}, 400, "question"),
    "nothing kept": ({"keep": 0}, 400, "keep"),
    "more than all": ({"keep": 1.5}, 400, "keep"),
    "a word for a number": ({"keep": "0.1"}, 400, "keep"),
    "an unknown method": ({"method": "magic"}, 400, "foveate"),
    "a method for the decoder": ({"method": "fastv"}, 400, "fastv"),
    "a field that is not known": ({"seed": 1}, 400, "seed"),
}


@pytest.mark.parametrize("path", ["/look", "/ask"])
@pytest.mark.parametrize("name", WRONG)
def test_it_says_what_is_wrong(page, path, name):
    more, status, word = WRONG[name]
    response = post(page, path, wish(**more))
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    assert word in response.json()["error"]


def test_a_prompt_longer_than_the_model_s_memory(page, bundled, monkeypatch):
    monkeypatch.setattr(bundled.model.config.get_text_config(), "max_position_embeddings", 580)
    assert post(page, "/look", wish()).status_code == 200  # nothing is generated
    response = post(page, "/ask", wish())
    assert response.status_code == 400
    assert "shorter" in response.json()["error"]


def test_bodies_that_are_no_wish(page):
    for content, kind, status in (
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b" " * (20 * 2**20 + 1), "application/json", 413),
    ):
        response = httpx.post(
            f"{page.url}/look", content=content, headers={"Content-Type": kind}, timeout=60, trust_env=False
        )
        assert response.status_code == status
        assert list(response.json()) == ["error"]


def test_a_full_queue_is_said(page):
    with blocked(page, page.worker):
        waiting = [threading.Thread(target=post, args=[page, "/look", wish()]) for _ in range(page.worker.limit)]
        for thread in waiting:
            thread.start()
        wait_for(lambda: page.worker.load() == (1, page.worker.limit))
        response = post(page, "/ask", wish())
        assert response.status_code == 503
        assert "busy" in response.json()["error"]
    for thread in waiting:
        thread.join(60)


def test_what_breaks_is_not_told(page, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("a secret")

    monkeypatch.setattr(desk, "prune", broken)
    response = post(page, "/ask", wish())
    assert response.status_code == 500
    assert "secret" not in response.text


def test_what_breaks_on_the_way_is_the_last_line(page, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("a secret")

    monkeypatch.setattr(desk, "answer", broken)
    first, last = asked(page)
    assert first["type"] == "look"
    assert last["type"] == "error"
    assert "secret" not in last["error"]


def test_unknown_paths_and_verbs(page):
    for response in (get(page, "/nothing"), get(page, "/static/nothing.js"), get(page, "/static/../page.py")):
        assert response.status_code == 404
    assert get(page, "/look").status_code == 405
    assert list(get(page, "/look").json()) == ["error"]


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1", ""]
)
def test_a_page_elsewhere_whose_name_points_here_gets_nothing(page, host):
    response = get(page, "/", headers={"Host": host})
    assert response.status_code == 400
    assert "error" in response.json()


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:7860", "127.0.0.1:7860", "[::1]:7860", "[::1]"])
def test_names_of_this_machine_are_served(page, host):
    assert get(page, "/", headers={"Host": host}).status_code == 200


def test_an_open_port_answers_to_addresses_but_not_to_names():
    for host, found in {"192.168.1.5:80": True, "[fe80::1]:80": True, "me:80": True, "evil.example": False}.items():
        assert allowed(host, {*LOCAL, "me"}, anywhere=True) is found
    assert not allowed("[::1", LOCAL, anywhere=True)


# -- the process ---------------------------------------------------------------------------------------------------


def test_the_url_is_printed_and_opened(bundled, monkeypatch, capsys):
    from foveate.apps.demo import app as module
    from foveate.apps.serve.run import bind

    served, opened = [], threading.Event()
    monkeypatch.setattr(module, "serve", lambda app, listens, **_: served.append(app))
    monkeypatch.setattr(module.webbrowser, "open", lambda url: opened.set())
    with bind("127.0.0.1", 0) as listens:
        serve_page(bundled, listens)
        assert not opened.is_set()
        serve_page(bundled, listens, open_browser=True)
        assert opened.wait(10)
        assert f"http://127.0.0.1:{listens.getsockname()[1]}" in capsys.readouterr().out
    for app in served:
        app.state.worker.close()


def test_a_warm_up_that_fails_is_logged_and_the_page_goes_on(bundled, monkeypatch):
    from foveate.apps.demo import app as module

    def broken(*_, **__):
        raise RuntimeError("cold")

    logged = []
    monkeypatch.setattr(module.log, "exception", logged.append)
    with monkeypatch.context() as cold:
        cold.setattr(desk.Desk, "ask", broken)
        app = make_page(bundled)
        with running(app) as page:
            wait_for(lambda: logged)
            assert "first scene" in logged[0]
            assert post(page, "/look", wish()).status_code == 200


def test_the_name_that_was_given_for_the_address_is_served(bundled):
    with running(make_page(bundled, bound=("127.0.0.1", "Desk.example"))) as found:
        for host, status in (("desk.example:7860", 200), ("localhost", 200), ("elsewhere.example", 400)):
            answer = httpx.get(f"{found.url}/about", headers={"Host": host}, trust_env=False)
            assert answer.status_code == status
        assert answer.json() == {"error": "This page is not at that address: open it as Desk.example."}


def test_a_large_picture_comes_back_small(page):
    """Its overlay is sent at every step of the slider."""
    large = packed(Image.effect_noise((3000, 2000), 80).convert("RGB"), "JPEG")
    found = post(page, "/look", wish(picture=data_url(large, "image/jpeg"))).json()
    data = base64.b64decode(found["overlay"].partition(",")[2])
    assert max(decode_image(data).size) <= 1024
    assert len(data) < 4_000_000


def test_pictures_that_are_no_scene(page):
    for path in ("/scenes/x.png", "/scenes/99.png", "/scenes/-1.png"):
        answer = httpx.get(f"{page.url}{path}", trust_env=False)
        assert answer.status_code == 404
        assert set(answer.json()) == {"error"}


def test_the_question_is_part_of_what_is_remembered_where_the_encoder_reads_it(bundled, monkeypatch):
    """A Q-Former attends to the picture with the question in hand."""
    asks = desk.Desk(bundled)
    first, second = (desk.Asked(FILE, "key", text, 0.1, METHOD) for text in ("what color is it?", "how many?"))
    assert asks._need({}, first) == asks._need({}, second)
    monkeypatch.setattr(asks._family, "encoder_inputs", lambda *_: {"pixel_values": 0, "qformer_input_ids": 0})
    assert asks._need({}, first) != asks._need({}, second)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--host", "999.1.1.1"), "--host"), (("--model", "no/such/folder"), "no/such/folder"),
        (("--port", "70000"), "port"), (("--typo",), "--typo"),
    ],
)  # fmt: skip
def test_a_demo_that_cannot_be(options, words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo", "--port", "0", *options])
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_a_demo_whose_port_is_taken(capsys):
    with bind("127.0.0.1", 0) as taken, pytest.raises(SystemExit):
        cli.main(["demo", "--port", str(taken.getsockname()[1])])
    assert "cannot be listened on" in capsys.readouterr().err

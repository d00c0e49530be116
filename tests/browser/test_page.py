import base64
import io
import json
import re
import signal
import urllib.request
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageStat
from playwright.sync_api import expect

import foveate
from browser.conftest import Demo
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene
from policies import save_policy
from served import to_file, wait_for
from tiled import tiled_folder
from videos import write_video

PHONE = {"width": 360, "height": 740}


def scenes(demo):
    with urllib.request.urlopen(f"{demo.url}/scenes") as response:
        return json.load(response)


def file(name, data):
    return {"name": name, "mimeType": "image/png", "buffer": data}


def open_scene(page, title):
    page.get_by_role("button", name=title, exact=True).click()
    expect(page.get_by_role("button", name=title, exact=True)).to_have_attribute("aria-pressed", "true")


def answered(page):
    """Both answers, once they are complete; with two pruned ones all three."""
    compares = page.locator("#compared-answer").is_visible()
    expect(page.locator("#status")).to_have_text(f"{'All' if compares else 'Both'} answers are here.")
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
    return [answer_text(page, which) for which in ("pruned", *(["compared"] if compares else []), "unpruned")]


def answer_text(page, which):
    text = page.locator(f"#{which}").inner_text()
    return re.sub(r"\s*[✓✗]?\s*(right|wrong)$", "", text.strip()).strip()


def overlay(page, which=""):
    return page.locator(f"#{which}overlay").get_attribute("src")


def compare(page, method="grid"):
    """Open the second set of controls, and wait for its kept tokens."""
    page.locator("#compare").check()
    page.locator("#compared-method").select_option(method)
    expect(page.locator("#compared-overlay")).to_be_visible()
    expect(page.locator("#compared-name")).to_have_text(re.compile(f"^{method}, "))


def moved(page, before):
    """Waits until other tokens are kept."""
    expect(page.locator("#overlay")).not_to_have_attribute("src", before)


LOADED = "[...document.querySelectorAll('#gallery img')].every((image) => image.complete && image.naturalWidth > 0)"


# -- the page ------------------------------------------------------------------------------------------------------


def test_it_loads(page, demo):
    expect(page).to_have_title("foveate demo")
    expect(page.get_by_role("heading", level=1)).to_have_text("foveate")
    expect(page.locator("#model")).to_have_text("bundled")
    thumbnails = page.locator("#gallery img")
    expect(thumbnails).to_have_count(len(scenes(demo)))
    wait_for(lambda: page.evaluate(LOADED))
    assert page.locator("#question").input_value() == scenes(demo)[0]["questions"][0]["text"]
    expect(page.locator("#share")).to_have_text("10 %, 58 of 576 tokens")
    assert page.context.cookies() == []
    assert page.evaluate("localStorage.length + sessionStorage.length") == 0


def test_every_control_has_a_name(page):
    page.get_by_role("button", name="Draw").click()
    expect(page.locator("#palette")).to_be_visible()
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    controls = ("button", "textbox", "slider", "combobox", "radio", "link", "table", "article", "region", "image")
    named = {}
    for node in nodes:
        role = node.get("role", {}).get("value")
        if role in controls and not node.get("ignored"):
            named.setdefault(role, []).append(node.get("name", {}).get("value", ""))
    assert {"button", "textbox", "slider", "combobox", "radio", "article"} <= named.keys()
    assert all(name for names in named.values() for name in names), named
    assert {"Question", "Keep", "Brush"} <= {*named["textbox"], *named["slider"]}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [{"width": 1280, "height": 800}, PHONE], ids=["wide", "phone"])
def test_no_rule_of_axe_is_broken(opened, demo, scheme, size):
    """Names, roles, contrast and order: as it opens, with answers, those of earlier settings, and with an error."""
    axe = Axe()

    def check(page):
        results = axe.run(page)
        assert results.violations_count == 0, results.generate_report()

    with opened(demo, viewport=size, color_scheme=scheme, reduced_motion="reduce") as page:
        check(page)
        page.locator("#go").click()
        answered(page)
        check(page)
        compare(page)
        expect(page.locator("#caption")).to_contain_text("earlier settings")
        check(page)
        page.get_by_role("button", name="Draw", exact=True).click()
        expect(page.locator("#palette")).to_be_visible()
        page.set_input_files("#file", file("letter.png", b"no image"))
        expect(page.get_by_role("alert")).not_to_be_empty()
        check(page)


# -- asking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 4])
def test_a_question_of_the_gallery_is_answered_twice(page, demo, number):
    scene = scenes(demo)[number]
    open_scene(page, scene["title"])
    page.get_by_role("button", name="Ask", exact=True).click()
    truth = scene["questions"][0]["answer"]
    assert answered(page)[1] == truth
    expect(page.locator("#truth")).to_have_text(f"True answer: {truth}")
    expect(page.locator("#question-title")).to_have_text(scene["questions"][0]["text"])
    rows = {row.split("\t")[0].strip(): row.split("\t")[1:] for row in page.locator("#rows tr").all_inner_texts()}
    assert rows["Visual tokens"] == ["58", "576", "9.9 times fewer"]
    assert len(rows) == 8
    for name in ("Time to first token", "vision encoder", "prefill", "Total time"):
        assert all(re.fullmatch(r"[\d.]+ m?s", cell) for cell in rows[name][:2])
    assert all(re.fullmatch(r"[\d.]+ MiB", cell) for cell in rows["KV cache"][:2])
    assert re.fullmatch(r"\d\.\d times less", rows["KV cache"][2])
    expect(page.locator("#cost")).to_contain_text("Single measurements on this machine")


def test_earlier_questions_are_listed_and_asked_again(page, demo):
    """The image that a question was about comes back with it, and is answered as before."""
    first, second = scenes(demo)[0], scenes(demo)[4]
    answers = []
    for scene in (first, second):
        open_scene(page, scene["title"])
        page.locator("#go").click()
        answers.append(answered(page)[0])
    turns = page.locator("#turns button")
    expect(turns).to_have_count(2)
    for turn, scene, answer in zip((1, 0), (first, second), answers, strict=True):
        expect(turns.nth(turn)).to_contain_text(scene["questions"][0]["text"])
        expect(turns.nth(turn)).to_contain_text(answer)
        expect(turns.nth(turn)).to_contain_text("58 of 576 tokens")
    shown = page.locator("#image").get_attribute("src")
    turns.nth(1).click()
    expect(page.locator("#image")).not_to_have_attribute("src", shown)
    expect(page.locator("#question")).to_have_value(first["questions"][0]["text"])
    page.locator("#go").click()
    expect(turns).to_have_count(3)
    assert answered(page)[0] == answers[0]


def ask_and_read(page):
    """Press "Ask", and return the turns that are sent."""
    with page.expect_request("**/ask") as sent:
        page.locator("#go").click()
    return sent.value.post_data_json["turns"]


def test_a_follow_up_is_a_turn_of_a_conversation(page, demo):
    first, second = (question["text"] for question in scenes(demo)[0]["questions"][:2])
    box, caption, turns = page.locator("#follow"), page.locator("#caption"), page.locator("#turns button")
    expect(box).to_be_hidden()
    assert ask_and_read(page) == []
    before = {"question": first, "answer": answered(page)[0]}
    box.check()
    expect(caption).to_have_text("Question")  # the same question stays the first one
    page.fill("#question", second)
    expect(caption).to_contain_text("earlier settings")
    assert ask_and_read(page) == [before]
    after = {"question": second, "answer": answered(page)[0]}
    expect(caption).to_have_text("Question 2 of a conversation")
    expect(turns.nth(0)).to_contain_text("question 2 of a conversation")
    rows = {row.split("\t")[0].strip(): row.split("\t")[1:] for row in page.locator("#rows tr").all_inner_texts()}
    assert rows["vision encoder"][:2] == ["–", "–"]
    page.fill("#question", first)
    assert ask_and_read(page) == [before, after]
    answered(page)
    turns.nth(2).click()  # the first one, by itself
    expect(box).not_to_be_checked()
    turns.nth(1).click()  # the second one, after the first
    expect(box).to_be_checked()
    assert ask_and_read(page) == [before]
    assert answered(page)[0] == after["answer"]
    box.uncheck()
    assert ask_and_read(page) == []
    answered(page)
    open_scene(page, scenes(demo)[4]["title"])
    expect(box).to_be_hidden()
    turns.nth(1).click()  # back to the first image, after its first question
    expect(box).to_be_checked()
    assert ask_and_read(page) == [before]
    answered(page)


def test_two_windows_ask_at_once(opened, demo):
    first, second = scenes(demo)[0], scenes(demo)[4]
    with opened(demo) as one, opened(demo) as other:
        open_scene(other, second["title"])
        one.locator("#go").click()
        other.locator("#go").click()
        assert answered(one)[1] == first["questions"][0]["answer"]
        assert answered(other)[1] == second["questions"][0]["answer"]


def test_markup_in_a_name_or_question_is_text(page):
    page.set_input_files("#file", file("<img src=x onerror=alert(1)>.png", to_file(draw_scene(sample_scene(0, 3)))))
    expect(page.locator("#image")).to_have_attribute("alt", re.compile("<img src=x"))
    page.fill("#question", "<b>what color is the star?</b>")
    page.locator("#question").press("Enter")
    expect(page.locator("#question-title")).to_have_text("<b>what color is the star?</b>")
    answered(page)
    assert page.locator("#question-title b").count() == 0


def test_keyboard_alone(page):
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the question")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("what shape is the yellow object?")
    page.keyboard.press("Enter")
    assert answered(page)[1] == "circle"
    expect(page.locator("#question")).to_be_focused()
    reached = []
    for _ in range(10):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style == "solid", reached
        if reached[-1] == "method":
            break
    assert [name for name in reached if name] == ["go", "follow", "keep", "method"]


# Requests to /look wait in the browser until `releaseLooks()`.
HOLD_LOOKS = """() => {
  const real = window.fetch;
  const released = new Promise((resolve) => (window.releaseLooks = resolve));
  window.looks = { started: 0, settled: 0 };
  window.fetch = async (...args) => {
    if (!String(args[0]).endsWith("/look")) return real(...args);
    window.looks.started += 1;
    await released;
    return real(...args).finally(() => (window.looks.settled += 1));
  };
}"""


def test_settings_that_change_while_an_image_is_opened_hold_for_it(page):
    """A question, a slider and a method that change before its kept tokens arrive."""
    page.evaluate(HOLD_LOOKS)
    page.set_input_files("#file", file("new.png", to_file(draw_scene(sample_scene(0, 3)))))
    wait_for(lambda: page.evaluate("looks.started > 0"))
    page.fill("#question", "what color is the star?")
    page.locator("#keep").fill("20")
    page.select_option("#method", "divprune")
    page.locator("#go").click()
    page.evaluate("releaseLooks()")
    assert answered(page) == ["yellow", "yellow"]
    expect(page.locator("#image")).to_have_attribute("alt", re.compile(r"new\.png"))
    expect(page.locator("#question-title")).to_have_text("what color is the star?")
    expect(page.locator("#share")).to_have_text("20 %, 115 of 576 tokens")
    expect(page.locator("#caption")).to_have_text("Question")


def test_the_slider_may_move_while_a_scene_is_opened(page, demo):
    page.evaluate(HOLD_LOOKS)
    scene = scenes(demo)[3]
    page.get_by_role("button", name=scene["title"], exact=True).click()
    wait_for(lambda: page.evaluate("looks.started > 0"))
    page.locator("#keep").fill("30")
    page.evaluate("releaseLooks()")
    expect(page.locator("#share")).to_have_text("30 %, 173 of 576 tokens")
    expect(page.get_by_role("button", name=scene["title"], exact=True)).to_have_attribute("aria-pressed", "true")
    assert page.locator("#question").input_value() == scene["questions"][0]["text"]


def test_another_image_stops_the_answers(opened, paused):
    with opened(paused) as page:
        page.locator("#go").click()
        expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible()
        open_scene(page, scenes(paused)[2]["title"])
        expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
        expect(page.locator("#status")).to_have_text("Stopped.")


# -- the kept tokens -----------------------------------------------------------------------------------------------


def test_the_slider_moves_by_keyboard(page):
    before = overlay(page)
    page.locator("#keep").focus()
    page.keyboard.press("ArrowRight")
    moved(page, before)
    expect(page.locator("#share")).to_have_text("11 %, 63 of 576 tokens")
    expect(page.locator("#keep")).to_have_attribute("aria-valuetext", "11 %, 63 of 576 tokens")
    expect(page.locator("#overlay")).to_have_attribute(
        "alt", re.compile(r"faded: 63 of 576, \d+ core and \d+ complement\.")
    )
    page.keyboard.press("End")
    expect(page.locator("#share")).to_have_text("100 %, 576 of 576 tokens")
    page.keyboard.press("Home")
    expect(page.locator("#share")).to_have_text("auto, 144 of 576 tokens")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#share")).to_have_text("2 %, 12 of 576 tokens")


def test_the_notch_auto_shows_what_the_policy_chose(page):
    """The number and the reason, and only while the method is that of the policy."""
    expect(page.locator("#auto-note")).to_have_text(re.compile("^auto: at most 1 % of the answers differ"))
    expect(page.locator("#reason")).to_be_hidden()
    page.locator("#keep").fill("1")
    expect(page.locator("#share")).to_have_text("auto, 144 of 576 tokens")
    expect(page.locator("#keep")).to_have_attribute("aria-valuetext", "auto, 144 of 576 tokens")
    expect(page.locator("#reason")).to_have_text(re.compile(r"^Auto keeps 25 % of the tokens, at an estimated risk"))
    page.locator("#go").click()
    answered(page)
    expect(page.locator("#pruned-count")).to_have_text("144 of 576 tokens")
    assert Axe().run(page).violations_count == 0
    page.locator("#method").select_option("grid")
    expect(page.locator("#share")).to_have_text("10 %, 58 of 576 tokens")
    expect(page.locator("#auto-note")).to_have_text("No auto: the policy is for the method foveate.")
    expect(page.locator("#reason")).to_be_hidden()
    page.locator("#keep").focus()
    page.keyboard.press("Home")
    expect(page.locator("#share")).to_have_text("2 %, 12 of 576 tokens")
    page.locator("#method").select_option("foveate")
    page.locator("#keep").fill("1")
    expect(page.locator("#share")).to_have_text("auto, 144 of 576 tokens")


def test_a_model_without_a_policy_has_no_notch(opened, tiny_model, tmp_path):
    demo = Demo(tiny_model, tmp_path / "log")
    try:
        with opened(demo) as page:
            expect(page.locator("#auto-note")).to_have_text(re.compile("^No auto: no policy comes with this model"))
            page.locator("#keep").focus()
            page.keyboard.press("Home")
            expect(page.locator("#share")).to_have_text("2 %, 1 of 16 tokens")
    finally:
        demo.end()


def test_tiles_that_are_left_out_are_shown(opened, tmp_path):
    """The control is there for models with tiles, and open where no policy chooses."""
    from foveate.runtime.load import load

    model = str(tiled_folder("llava_next", tmp_path / "tiles"))
    demo = Demo(model, tmp_path / "log", options=["--policy", save_policy(load(model).model, tmp_path)])
    try:
        with opened(demo) as page:
            before = overlay(page)
            expect(page.locator("#encode-share")).to_have_text("100 %")
            expect(page.locator("#legend .absent")).to_have_count(0)
            page.locator("#encode").fill("40")
            moved(page, before)
            expect(page.locator("#encode-share")).to_have_text("40 %, 2 of 5 parts")
            expect(page.locator("#encode")).to_have_attribute("aria-valuetext", "40 %, 2 of 5 parts")
            expect(page.locator("#legend")).to_contain_text("not encoded: 3 of 5 parts")
            expect(page.locator("#overlay")).to_have_attribute(
                "alt", re.compile(r"complement; 2 of 5 parts encoded\.$")
            )
            assert Axe().run(page).violations_count == 0
            page.locator("#go").click()
            answered(page)
            expect(page.locator("#encode-share")).to_have_text("40 %, 2 of 5 parts")
            page.locator("#keep").fill("1")  # auto
            expect(page.locator("#encode")).to_be_disabled()
            expect(page.locator("#encode-note")).to_have_text("A policy is for whole images.")
            expect(page.locator("#encode-share")).to_have_text("100 %")
            expect(page.locator("#share")).to_have_text(re.compile("^auto, "))
            page.locator("#keep").fill("10")
            expect(page.locator("#encode-share")).to_have_text("40 %, 2 of 5 parts")
            page.locator("#encode").focus()
            page.keyboard.press("End")
            expect(page.locator("#encode-share")).to_have_text("100 %")
            expect(page.locator("#legend")).not_to_contain_text("not encoded")
            page.keyboard.press("Home")
            expect(page.locator("#encode-share")).to_have_text(re.compile(r"^auto, \d of 5 parts$"))
            expect(page.locator("#encode-note")).to_contain_text("as much as in the best one")
    finally:
        demo.end()


def test_a_model_that_sees_images_whole_has_no_such_control(page):
    expect(page.locator("#encode")).to_be_hidden()


def test_the_newest_position_of_the_slider_wins(page):
    page.evaluate(HOLD_LOOKS)
    page.locator("#keep").focus()
    page.keyboard.press("ArrowRight")
    wait_for(lambda: page.evaluate("looks.started > 0"))
    for _ in range(29):
        page.keyboard.press("ArrowRight")
    wait_for(lambda: page.evaluate("looks.started > 1"))
    page.evaluate("releaseLooks()")
    expect(page.locator("#share")).to_have_text("40 %, 230 of 576 tokens")
    wait_for(lambda: page.evaluate("looks.settled === looks.started"))
    expect(page.locator("#share")).to_have_text("40 %, 230 of 576 tokens")


def test_another_question_keeps_other_tokens(page, demo):
    before = overlay(page)
    page.get_by_role("button", name=scenes(demo)[0]["questions"][1]["text"]).click()
    moved(page, before)
    before = overlay(page)
    page.fill("#question", "what shape is the green object?")
    moved(page, before)


def test_the_first_look_can_be_opened(page):
    expect(page.locator("#first-look")).to_be_hidden()
    before = overlay(page)
    page.locator("#method").select_option("glance")
    moved(page, before)
    page.get_by_text("First look: 115 averages of 576 tokens").click()
    expect(page.locator("#first-look-overlay")).to_be_visible()
    assert page.locator("#first-look-overlay").get_attribute("src") != overlay(page)
    before = overlay(page)
    page.locator("#method").select_option("foveate")
    moved(page, before)
    expect(page.locator("#first-look")).to_be_hidden()


def test_answers_to_earlier_settings_say_so(page):
    """And their costs are greyed, until the settings are those of the answers again."""
    caption, title = page.locator("#caption"), page.locator("#cost-title")
    cell = page.locator("#rows td").first
    page.locator("#go").click()
    answered(page)
    color = cell.evaluate("(cell) => getComputedStyle(cell).color")
    before = overlay(page)
    page.fill("#question", "how many stars are there?")
    moved(page, before)
    expect(caption).to_contain_text("earlier settings")
    page.locator("#go").click()
    answered(page)
    expect(caption).to_have_text("Question")
    page.locator("#method").select_option("grid")
    expect(caption).to_contain_text("earlier settings")
    expect(title).to_have_text("Cost of the answers for earlier settings")
    expect(cell).not_to_have_css("color", color)
    page.locator("#method").select_option("foveate")
    expect(caption).to_have_text("Question")
    expect(title).to_have_text("Cost of the answers")
    expect(cell).to_have_css("color", color)


def test_a_suggested_question_is_asked(page, demo):
    question = scenes(demo)[0]["questions"][1]
    page.get_by_role("button", name=question["text"], exact=True).click()
    assert answered(page)[1] == question["answer"]
    expect(page.locator("#question-title")).to_have_text(question["text"])


def test_the_legend_is_true_for_each_method(page):
    """ "Relevant" and "relevance" are for methods that read the question; without scores no token is a core."""
    rows = {row.name: row for row in foveate.methods() if row.prunes == "input"}
    legend, texts = page.locator("#legend"), {}
    for name in page.locator("#method option").all_inner_texts():
        if name != page.locator("#method").input_value():
            with page.expect_response("**/look"):
                page.locator("#method").select_option(name)
            expect(page.locator("#share")).to_have_text("10 %, 58 of 576 tokens")
        texts[name] = legend.inner_text()
        shown = texts[name] + (page.locator("#map").inner_text() if page.locator("#map").is_visible() else "")
        assert not re.search("relevan", shown.replace("score, without", "")) or rows[name].prompt_aware, (name, shown)
    assert texts["random"] == texts["grid"] == "kept 58\ndropped 518"
    assert re.search(r"core \d+: the most relevant\ncomplement \d+: unlike the rest\ndropped 518", texts["foveate"])
    assert "the highest scores" in texts["vispruner"]


def test_another_method_keeps_other_tokens(page):
    before = overlay(page)
    page.locator("#method").select_option("vispruner")
    expect(page.locator("#summary")).to_contain_text("[CLS]")
    moved(page, before)
    page.locator("#go").click()
    answered(page)


# -- two methods or budgets ------------------------------------------------------------------------------------------


def test_two_methods_are_answered_side_by_side(page, demo):
    """Each with its overlay, its number of tokens and its legend; the unpruned answer beside them."""
    expect(page.locator("#compared-answer")).to_be_hidden()
    first = overlay(page)
    compare(page)
    expect(page.locator("#compared-share")).to_have_text("10 %, 58 of 576 tokens")
    assert overlay(page) == first != overlay(page, "compared-")
    page.locator("#compared-keep").fill("30")
    expect(page.locator("#compared-share")).to_have_text("30 %, 173 of 576 tokens")
    assert overlay(page) == first
    page.locator("#go").click()
    assert answered(page)[2] == scenes(demo)[0]["questions"][0]["answer"]
    titles = [heading.inner_text().split("\n") for heading in page.locator(".answer h3").all()]
    names, counts = ["foveate, 10 %", "grid, 30 %", "Unpruned"], ["58 of 576", "173 of 576", "all 576"]
    assert titles == [[name, f"{count} tokens"] for name, count in zip(names, counts, strict=True)]
    assert page.locator("#columns th").all_inner_texts() == names
    rows = {row.split("\t")[0].strip(): row.split("\t")[1:] for row in page.locator("#rows tr").all_inner_texts()}
    assert rows["Visual tokens"] == ["58", "173", "576"]
    assert page.locator("#compared-legend").inner_text() == "kept 173\ndropped 403"
    expect(page.locator("#turns button").first).to_contain_text("(grid, 30 %: 173 of 576 tokens)")
    assert Axe().run(page).violations_count == 0


def test_a_comparison_is_switched_off_again(page):
    page.locator("#go").click()
    answered(page)
    compare(page)
    expect(page.locator("#caption")).to_contain_text("earlier settings")
    page.locator("#compare").uncheck()
    expect(page.locator("#compared-answer")).to_be_hidden()
    expect(page.locator("#compare-field")).to_be_hidden()
    expect(page.locator("#caption")).to_have_text("Question")
    expect(page.locator("#pruned-title")).to_have_text("Pruned 58 of 576 tokens")
    with page.expect_request("**/ask") as sent:
        page.locator("#go").click()
    assert sent.value.post_data_json["compare"] is None
    answered(page)
    expect(page.locator("#columns th").last).to_have_text("Saved")


def test_a_policy_is_compared_with_a_budget(page):
    compare(page, "foveate")
    page.locator("#compared-keep").fill("1")
    expect(page.locator("#compared-share")).to_have_text("auto, 144 of 576 tokens")
    expect(page.locator("#compared-reason")).to_contain_text("Auto keeps 25 % of the tokens")
    expect(page.locator("#reason")).to_be_hidden()
    page.locator("#go").click()
    answered(page)
    expect(page.locator("#compared-title")).to_have_text("foveate, auto 144 of 576 tokens")
    page.locator("#compared-method").select_option("random")
    expect(page.locator("#compared-share")).to_have_text("10 %, 58 of 576 tokens")
    expect(page.locator("#compared-auto-note")).to_have_text("No auto: the policy is for the method foveate.")


# -- zoom ------------------------------------------------------------------------------------------------------------

PICTURES = ("overlay", "compared-overlay", "plain")


def places(page):
    """Where every picture of the answers is in its frame: left and top edge, and its width, as shares of the frame."""
    script = """(image) => {
      const [inner, outer] = [image, image.parentElement].map((node) => node.getBoundingClientRect());
      return [(inner.x - outer.x) / outer.width, (inner.y - outer.y) / outer.height, inner.width / outer.width];
    }"""
    every = [page.locator(f"#{name}").evaluate(script) for name in PICTURES]
    assert all(place == pytest.approx(every[0], abs=0.01) for place in every)
    return every[0]


def test_pictures_zoom_together(page, demo):
    """By the buttons, by keys, by the wheel with Ctrl about the pointer, and by a double click."""
    compare(page)
    level, frame = page.locator("#level"), page.locator(".frame", has=page.locator("#compared-overlay"))
    assert places(page) == pytest.approx([0, 0, 1])
    page.get_by_role("button", name="Zoom in").click()
    expect(level).to_have_text("150 %")
    assert places(page) == pytest.approx([-0.25, -0.25, 1.5], abs=0.01)
    page.get_by_role("button", name="Zoom out").click()
    page.get_by_role("button", name="Zoom out").click()
    expect(level).to_have_text("100 %")
    assert places(page) == pytest.approx([0, 0, 1])
    frame.focus()
    for key in ("+", "+", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
    assert places(page) == pytest.approx([-0.525, -0.525, 2.25], abs=0.01)
    for _ in range(20):
        page.keyboard.press("ArrowLeft")  # not over the edge
    assert places(page)[0] == pytest.approx(0, abs=0.01)
    page.keyboard.press("0")
    expect(level).to_have_text("100 %")
    box = frame.bounding_box()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.5 * box["height"])
    page.keyboard.down("Control")
    page.mouse.wheel(0, -30)
    page.keyboard.up("Control")
    wait_for(lambda: places(page)[2] > 1.1)
    left, _, width = places(page)
    assert left + 0.75 * width == pytest.approx(0.75, abs=0.02)  # what is under the pointer stays there
    frame.dblclick()
    expect(level).to_have_text("100 %")
    frame.dblclick(position={"x": 5, "y": 5})  # further out its corner is round
    expect(level).to_have_text("225 %")
    assert places(page)[:2] == pytest.approx([0, 0], abs=0.05)
    page.mouse.down()
    page.mouse.move(box["x"] - 40, box["y"] + 1)
    page.mouse.up()
    assert places(page)[0] < -0.1
    open_scene(page, scenes(demo)[4]["title"])
    expect(level).to_have_text("100 %")


def test_the_wheel_alone_scrolls(page):
    box = page.locator("#overlay").bounding_box()
    page.mouse.move(box["x"] + 9, box["y"] + 9)
    page.mouse.wheel(0, 100)
    wait_for(lambda: page.evaluate("scrollY > 0"))
    expect(page.locator("#level")).to_have_text("100 %")


def test_two_fingers_zoom(opened, demo):
    with opened(demo, viewport=PHONE, has_touch=True, is_mobile=True) as page:
        compare(page)
        page.locator("#plain").scroll_into_view_if_needed()
        box, touch = page.locator("#plain").bounding_box(), page.context.new_cdp_session(page)
        for kind, apart in (("touchStart", 10), ("touchMove", 15), ("touchMove", 20), ("touchEnd", None)):
            sides = [] if apart is None else [-apart, apart]
            x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            points = [{"x": x + side, "y": y, "id": n} for n, side in enumerate(sides)]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        expect(page.locator("#level")).to_have_text("200 %")
        assert places(page) == pytest.approx([-0.5, -0.5, 2], abs=0.02)
        assert page.evaluate("visualViewport.scale") == 1


# -- images --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_a_good_file_is_shown(page, kind):
    before = overlay(page)
    page.set_input_files("#file", file(f"mine.{kind.lower()}", to_file(draw_scene(sample_scene(0, 5)), kind)))
    moved(page, before)
    expect(page.locator("#image")).to_have_attribute("alt", re.compile("mine"))
    expect(page.locator("#suggestions button")).to_have_count(0)
    page.fill("#question", "how many objects are there?")
    page.locator("#go").click()
    answered(page)
    expect(page.locator("#truth")).to_be_hidden()


BIG = to_file(Image.new("1", (5001, 5000)))
HEAVY = to_file(Image.new("RGB", (8, 8))) + bytes(16 * 2**20)
SCENE = to_file(draw_scene(sample_scene(0, 5)))
REFUSED = {
    "text.png": (b"hello, I am no image", "not a readable image"),
    "cut.png": (SCENE[: len(SCENE) // 2], "damaged|not a readable image"),
    "wide.png": (BIG, r"25\.0 megapixels, and the limit is 25"),
    "heavy.png": (HEAVY, r"16\.0 MiB, and the limit is 15\.0 MiB"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_file_leaves_the_old_image(opened, demo, name):
    data, sentence = REFUSED[name]
    with opened(demo, expect_errors=True) as page:  # the browser itself reports a 400
        before = page.locator("#image").get_attribute("src"), overlay(page)
        page.set_input_files("#file", file(name, data))
        expect(page.get_by_role("alert")).to_have_text(re.compile(sentence))
        assert (page.locator("#image").get_attribute("src"), overlay(page)) == before
        page.get_by_role("button", name="Dismiss").click()
        expect(page.get_by_role("alert")).to_have_text("")
        page.locator("#go").click()
        assert answered(page)[1] == "star"


def test_a_clip_is_shown_as_its_frames_and_asked_about(opened, demo, tmp_path):
    """As many frames as the model has room for; a clip that cannot be read leaves the one before."""
    pytest.importorskip("av")
    path = write_video(tmp_path / "a.mp4", [0.0, 0.5, 1.0, 1.5], "libx264")
    with opened(demo, expect_errors=True) as page:  # the browser itself reports a 400
        page.set_input_files("#file", path)
        shown = page.locator("#image")
        expect(shown).to_have_attribute("alt", "The image of the question: a.mp4, 2 frames up to 1.5 s.")
        expect(page.locator("#share")).to_have_text("10 %, 116 of 1152 tokens")
        sheet = shown.get_attribute("src")
        assert sheet.startswith("data:image/png")
        assert page.locator("#plain").get_attribute("src") == sheet != overlay(page)
        page.locator("#go").click()
        answered(page)
        (tmp_path / "cut.mp4").write_bytes(Path(path).read_bytes()[:500])
        page.set_input_files("#file", tmp_path / "cut.mp4")
        expect(page.get_by_role("alert")).to_contain_text("no video that can be read")
        assert shown.get_attribute("src") == sheet
        open_scene(page, scenes(demo)[4]["title"])
        page.locator("#turns button").nth(0).click()
        expect(shown).to_have_attribute("src", sheet)


def test_an_image_is_dropped_and_pasted(page):
    give = """([data, kind]) => {
      const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
      const files = new DataTransfer();
      files.items.add(new File([bytes], `${kind}.png`, { type: "image/png" }));
      const how = { bubbles: true, cancelable: true };
      const event = kind === "drop" ? new DragEvent("drop", { ...how, dataTransfer: files })
        : new ClipboardEvent("paste", { ...how, clipboardData: files });
      document.body.dispatchEvent(event);
    }"""
    for kind, index in (("drop", 5), ("paste", 6)):
        page.evaluate(give, [base64.b64encode(to_file(draw_scene(sample_scene(0, index)))).decode(), kind])
        expect(page.locator("#image")).to_have_attribute("alt", re.compile(f"{kind}.png"))


def test_the_last_chosen_image_is_asked_about(page, demo):
    for scene in scenes(demo):
        page.get_by_role("button", name=scene["title"], exact=True).click()
    page.locator("#go").click()
    assert answered(page)[1] == scene["questions"][0]["answer"]
    expect(page.locator("#truth")).to_have_text(f"True answer: {scene['questions'][0]['answer']}")
    expect(page.locator('#gallery [aria-pressed="true"]')).to_have_count(1)


def test_a_drawing_is_asked_about(page):
    page.get_by_role("button", name="Draw").click()
    canvas = page.locator("#canvas")
    expect(canvas).to_be_visible()
    page.fill("#question", "what color is the circle?")
    page.get_by_role("radio", name="blue").check()
    page.locator("#brush").fill("60")
    before = overlay(page)
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 2, box["y"] + box["height"] / 2)
    page.mouse.up()
    moved(page, before)
    page.locator("#go").click()
    assert answered(page)[1] == "blue"
    before = overlay(page)
    page.get_by_role("button", name="Clear").click()
    moved(page, before)
    open_scene(page, "Bars")
    expect(canvas).to_be_hidden()


# -- stopping ------------------------------------------------------------------------------------------------------


def test_an_answer_is_stopped(opened, paused):
    with opened(paused) as page:
        page.locator("#go").click()
        expect(page.locator("#pruned")).not_to_have_text("")
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#status")).to_have_text("Stopped.")
        expect(page.get_by_role("button", name="Ask", exact=True)).to_be_focused()
        length = len(page.locator("#pruned").inner_text())
        assert length > 0
        page.locator("#keep").fill("30")  # the model is free again, and has done all of that answer
        expect(page.locator("#share")).to_have_text(re.compile(r"30 %, \d+ of"))
        assert len(page.locator("#pruned").inner_text()) == length
        paused.pause.unlink()
        page.locator("#go").click()
        answered(page)


def test_another_image_stops_an_answer_that_began(opened, paused):
    with opened(paused) as page:
        page.locator("#go").click()
        expect(page.locator("#pruned")).not_to_have_text("")
        open_scene(page, "Bars")
        expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
        expect(page.locator("#pruned")).to_have_text("")


def test_a_slider_that_moves_during_an_answer_takes_effect_after_it(opened, paused):
    with opened(paused) as page:
        share = page.locator("#share").inner_text()
        page.locator("#go").click()
        expect(page.locator("#pruned")).not_to_have_text("")
        page.locator("#keep").focus()
        for _ in range(5):
            page.keyboard.press("PageUp")
        paused.pause.unlink()
        answered(page)
        expect(page.locator("#share")).to_have_text(re.compile("of"))
        assert page.locator("#share").inner_text() != share
        expect(page.locator("#caption")).to_contain_text("earlier settings")


def test_a_server_that_is_killed_during_an_answer_is_reported(opened, paused):
    with opened(paused, expect_errors=True) as page:
        page.locator("#go").click()
        expect(page.locator("#pruned")).not_to_have_text("")
        paused.signal(signal.SIGKILL)
        expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached")
        expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
        page.locator("#go").click()
        expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached")


# -- sizes and colours ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [PHONE, {"width": 768, "height": 1024}, {"width": 1024, "height": 700}])
def test_nothing_is_cut_off(opened, demo, size):
    with opened(demo, viewport=size) as page:
        page.get_by_role("button", name="Draw").click()
        expect(page.locator("#palette")).to_be_visible()
        compare(page)
        page.locator("#go").click()
        answered(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for control in page.locator("button, select, input:not(.visually-hidden), table, canvas, .frame img").all():
            if control.is_visible():
                box = control.bounding_box()
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= size["width"] + 0.5
                assert min(box["width"], box["height"]) >= 16


def test_on_a_phone_the_answers_come_into_view(opened, demo):
    with opened(demo, viewport=PHONE, has_touch=True, is_mobile=True) as page:
        page.locator("#go").tap()
        answered(page)
        expect(page.locator("#pruned")).to_be_in_viewport()


def test_long_words_wrap(opened, demo):
    with opened(demo, viewport=PHONE) as page:
        page.fill("#question", "x" * 300)
        page.locator("#go").click()
        answered(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_light_and_dark(opened, demo):
    shade = {}
    for scheme in ("light", "dark"):
        with opened(demo, color_scheme=scheme) as page:
            page.locator("#go").click()
            answered(page)
            shot = Image.open(io.BytesIO(page.screenshot())).convert("L")
            shade[scheme] = ImageStat.Stat(shot).median[0]
            low, high = shot.getextrema()
            assert high - low > 180  # the text is readable
    assert shade["light"] > 220
    assert shade["dark"] < 50


CONTRAST = """() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const [r, g, b, a = 1] = numbers(getComputedStyle(at).backgroundColor);
      if (a > 0) return [r, g, b];
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("body *")]
    .filter((node) => node.checkVisibility() && [...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim()))
    .map((node) => {
      const pair = [light(numbers(getComputedStyle(node).color)), light(ground(node))].sort((a, b) => b - a);
      return [(pair[0] + 0.05) / (pair[1] + 0.05), node.textContent.trim().slice(0, 40)];
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(opened, demo, scheme):
    with opened(demo, color_scheme=scheme) as page:
        page.locator("#go").click()
        answered(page)
        page.set_input_files("#file", file("text.png", b"no image"))
        expect(page.get_by_role("alert")).not_to_have_text("")
        ratios = page.evaluate(CONTRAST)
        assert len(ratios) > 40
        assert min(ratios)[0] >= 4.5, min(ratios)

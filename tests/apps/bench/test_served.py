"""How requests arrive, and what is reported of them, without an engine."""

import json

import numpy as np
import pytest

from foveate.apps.bench.served import plot, to_markdown, to_record
from foveate.apps.bench.served.arms import VllmArm
from foveate.apps.bench.served.cases import (
    LatencyBound,
    LoadCase,
    draw_arrivals,
    make_cases,
    order_requests,
    parse_bound,
    parse_rates,
    parse_reuse,
)
from foveate.apps.bench.served.clients import AnswerTimes, LoadClock, VllmLoad
from foveate.apps.bench.served.report import get_goodput, get_percentiles
from foveate.apps.bench.served.run import VllmResult
from foveate.errors import InputError


@pytest.mark.parametrize("case", [LoadCase(1, 4), LoadCase(4, 3), LoadCase(16, 2), LoadCase(4, rate=2.0)])
@pytest.mark.parametrize("count", [1, 7, 32])
def test_every_image_gets_all_its_questions_once(case, count):
    pairs = order_requests(count, case, seed=3)
    images = {image for image, _ in pairs}
    assert sorted(pairs) == [(image, question) for image in sorted(images) for question in range(case.questions)]
    assert count <= len(pairs) < count + case.questions


def test_a_client_keeps_to_its_image():
    """With two clients that take turns, each asks about one image until it has asked everything."""
    pairs = order_requests(8, LoadCase(2, clients=2), seed=0)
    for client in (0, 1):
        own = pairs[client::2]
        assert [question for _, question in own] == [0, 1, 0, 1]
        assert [image for image, _ in own] == [client, client, client + 2, client + 2]


def test_arrivals_are_a_poisson_process():
    """Gaps are exponential: their mean and their standard deviation are one over the rate, and they have no memory."""
    gaps = np.diff(draw_arrivals(20_000, 4.0, seed=1))
    assert gaps.min() > 0
    assert abs(gaps.mean() - 0.25) < 0.01
    assert abs(gaps.std() - 0.25) < 0.01
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.03
    assert draw_arrivals(5, 4.0, seed=1) == draw_arrivals(5, 4.0, seed=1) != draw_arrivals(5, 4.0, seed=2)


def test_cases_with_a_rate_come_last():
    cases = make_cases([1, 4], [1, 16], parse_rates("0.5, 0.8x"))
    assert [case.rate > 0 for case in cases] == [False] * 4 + [True] * 4
    assert {(case.questions, case.clients) for case in cases[:4]} == {(1, 1), (1, 4), (16, 1), (16, 4)}
    assert cases[4].resolve(10.0) == LoadCase(1, rate=0.5)
    assert cases[5].resolve(10.0) == LoadCase(1, rate=8.0)


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_rates, "0", "--rate '0'"), (parse_rates, "1,fast", "--rate 'fast'"), (parse_rates, "inf", "'inf'"),
        (parse_bound, "100", "--bound '100'"), (parse_bound, "1,0", "--bound '1,0'"), (parse_bound, "a,b", "--bound"),
        (parse_reuse, "never", "--reuse 'never'"), (parse_reuse, "auto,auto", "each once"),
    ],
)  # fmt: skip
def test_bad_options(parse, text, message):
    with pytest.raises(InputError, match=message):
        parse(text)


def test_good_options():
    assert parse_rates(None) == []
    assert parse_bound(None) is None
    assert parse_bound("1000, 100") == LatencyBound(1.0, 0.1)
    assert parse_reuse("question,auto") == ["question", "auto"]


def test_a_clock_skips_idle_time():
    now = [100.0]
    clock = LoadClock(lambda: now[0])
    now[0] = 101.0
    assert clock.read() == 1
    clock.skip_to(10)
    assert clock.read() == 10
    now[0] = 103.0
    clock.skip_to(5)  # is over
    assert clock.read() == 12


def make_load(first: float, per_token: float, count: int = 4) -> VllmLoad:
    answers = [AnswerTimes(n, n + first, n + first + 3 * per_token, 4) for n in range(count)]
    return VllmLoad(seconds=2.0, answers=answers, prompt=50, blocks=8)


def test_goodput_counts_what_is_within_both_bounds():
    load = make_load(first=0.5, per_token=0.1)
    load.answers[0].first = 0.9  # late, and its further tokens come faster
    for bound, good in (((1, 1), 4), ((0.6, 1), 3), ((1, 0.05), 1), ((0.4, 1), 0)):
        assert get_goodput(load, LatencyBound(*bound)) == good / 2.0
    assert AnswerTimes(1.0, 2.0, 2.0, 1).per_token == 0


def test_percentiles_are_of_all_requests():
    loads = [make_load(1.0, 0.1, count=50), make_load(3.0, 0.1, count=50)]
    assert get_percentiles(loads, "first") == pytest.approx({"50": 2.0, "95": 3.0, "99": 3.0})


def test_record_table_and_plot(tmp_path):
    cases = (LoadCase(1, 4), LoadCase(4, 4), LoadCase(4, rate=1.5))
    arms = []
    for name, speed in (("unpruned", 1.0), ("foveate, keep 0.1", 0.5)):
        loads = {case: [make_load(speed, 0.1 * speed) for _ in range(2)] for case in cases}
        arms.append(VllmArm(name, None, (8, 8), {}, "", 50, loads, 16))
    result = VllmResult("model", arms, 80, LatencyBound(0.7, 0.07), ("a note",))
    record, table = to_record(result), to_markdown(result)
    assert json.loads(json.dumps(record)) == record
    pruned = record["arms"][1]["cases"]
    assert [(case["questions"], case["clients"], case["rate"]) for case in pruned] == [
        (1, 4, 0),
        (4, 4, 0),
        (4, 0, 1.5),
    ]
    for case in pruned:
        assert case["first_token_ratio"]["median"] == 0.5
        assert (case["goodput"]["median"], case["requests_a_second"]["median"]) == (2.0, 2.0)
    assert [case["goodput"]["median"] for case in record["arms"][0]["cases"]] == [0, 0, 0]
    assert table.count("a note") == 1
    for case in cases:
        assert case.describe() in table
    plot(record, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")

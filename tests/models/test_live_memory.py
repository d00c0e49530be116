"""The bytes that tensors take at once: by sums that are known."""

import threading

import torch

from foveate.models.live_memory import LiveMemory

BYTES = 4 * 1000


def test_what_is_alive_at_once_counts():
    weight = torch.ones(1000)
    with LiveMemory() as live:
        first = weight + 1
        second = first + 1
        del first
        third = second + 1
    assert live.peak == 2 * BYTES
    with live:
        del second, third
        fourth = [weight + n for n in range(3)]
    assert live.peak == 3 * BYTES
    assert len(fourth) == 3


def test_views_and_results_in_place_are_no_new_memory():
    weight = torch.ones(10, 100)
    with LiveMemory() as live:
        views = weight.t(), weight[2:], weight.flatten().split(10)
        weight += 1
        torch.add(weight, 1, out=weight)
    assert live.peak == 0
    with live:
        parts = torch.cat([weight, weight]).split(10)
    assert live.peak == 2 * BYTES
    assert (len(views), len(parts)) == (3, 2)


def test_other_threads_and_the_device_meta_do_not_count():
    with LiveMemory() as live:
        thread = threading.Thread(target=lambda: torch.ones(1000) + 1)
        thread.start()
        thread.join()
        torch.ones(1000, device="meta").clone()
    assert live.peak == 0

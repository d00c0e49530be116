"""Values in a byte limit: an oracle keeps a plain list in the order of use."""

from __future__ import annotations

import random

from foveate.runtime.byte_cache import ByteCache


def test_the_least_recently_used_is_forgotten_first():
    draw = random.Random(3)
    cache, used = ByteCache(100), list[tuple[int, int, int]]()  # (key, value, size), the last one used last
    for step in range(3000):
        key, size = draw.randrange(12), draw.randrange(1, 130)
        if draw.random() < 0.5:
            found = [entry for entry in used if entry[0] == key]
            used = [entry for entry in used if entry[0] != key] + found
            assert cache.get(key) == (found[0][1] if found else None)
            continue
        cache.put(key, step, size)
        used = [entry for entry in used if entry[0] != key]
        if size <= 100:
            used.append((key, step, size))
            while sum(entry[2] for entry in used) > 100:
                used.pop(0)
        assert cache.bytes == sum(entry[2] for entry in used) <= 100


def test_a_value_larger_than_the_limit_leaves_the_others_alone():
    cache = ByteCache(10)
    cache.put("a", 1, 6)
    cache.put("b", 2, 11)
    assert (cache.get("a"), cache.get("b"), cache.bytes) == (1, None, 6)
    cache.put("a", 3, 11)  # in the place of the earlier one
    assert (cache.get("a"), cache.bytes) == (None, 0)


def test_forgotten():
    cache = ByteCache(10)
    for key in "abc":
        cache.put(key, key, 3)
    cache.remove("a")
    cache.remove("z")
    assert (cache.get("a"), cache.get("b"), cache.bytes) == (None, "b", 6)
    cache.clear()
    assert (cache.get("b"), cache.bytes) == (None, 0)

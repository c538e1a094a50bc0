"""The cache of finished windows: a damaged file is ignored, and the result is that of a whole run."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from separative.inference import diarize
from separative.inference.windows import CACHED, WindowCache

SHAPES = dict(zip(CACHED, [(3, 2, 32), (3, 2, 8), (5, 8), (5,), (3, 32)], strict=True))


def part() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def test_no_damage_gives_other_values_or_an_error(tmp_path: Path) -> None:
    cache, right, rng = WindowCache(tmp_path / "cache.npz", "key"), part(), random.Random(0)
    cache.save([right])
    whole = cache.path.read_bytes()
    for _ in range(1000):
        content = bytearray(whole)
        for _ in range(rng.choice((1, 1, 8))):
            place = rng.randrange(len(content))
            if rng.random() < 0.7:
                content[place] ^= 1 << rng.randrange(8)
            elif rng.random() < 0.5:
                content[place : place + 8] = bytes(8)
            else:
                del content[max(place, 1) :]
        cache.path.write_bytes(content)
        for found in cache.load():
            assert all(np.array_equal(found[name], right[name]) for name in CACHED)


@pytest.mark.parametrize("name", CACHED)
@pytest.mark.parametrize(
    "value",
    [np.zeros(0, np.float32), np.array("text"), np.array(3.0), np.full((9, 9, 9), np.nan, np.float32)],
)
def test_arrays_of_other_types_and_shapes_are_ignored(tmp_path: Path, name: str, value: Any) -> None:
    cache = WindowCache(tmp_path / "cache.npz", "key")
    np.savez(cache.path, **{**part(), name: value, "key": np.array("key")})
    assert cache.load() == []
    np.savez(cache.path, **{k: v for k, v in part().items() if k != name}, key=np.array("key"))
    assert cache.load() == []


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04" + bytes(100), b"\x93NUMPY\x01\x00"])
def test_a_recording_with_a_damaged_cache_is_processed_again(
    model, record: Callable[..., Path], tmp_path: Path, content: bytes
) -> None:
    source, cache = record("cached.wav", seconds=5.0), tmp_path / "cache.npz"
    expected = diarize(model, source)
    diarize(model, source, cache=cache)
    cache.write_bytes(content)
    found = diarize(model, source, cache=cache)
    np.testing.assert_array_equal(found.windows.activity, expected.windows.activity)
    assert found.turns == expected.turns

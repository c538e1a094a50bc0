"""Damaged audio files give an AudioError or valid samples; `make soak` runs 10,000 of them."""

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from mutations import KINDS, mutants, mutate

from separative import audio
from separative.errors import AudioError


def test_damaged_files_are_errors_or_valid_samples(tmp_path: Path) -> None:
    outcomes: Counter[tuple[str, str]] = Counter()
    for kind, path in mutants(tmp_path, 320):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                wave_N, rate = audio.read(path, 16000)
            except AudioError as error:
                assert str(path) in str(error) and "\n" not in str(error)
                outcomes[kind, "error"] += 1
                continue
        assert rate == 16000 and wave_N.dtype == np.float32 and wave_N.ndim == 1
        assert len(wave_N) > 0 and np.isfinite(wave_N).all()
        outcomes[kind, "samples"] += 1
    # Both outcomes occur: every codec fails at times, and some damaged files can be decoded.
    assert {kind for kind, outcome in outcomes if outcome == "error"} == set(KINDS)
    assert {kind for kind, outcome in outcomes if outcome == "samples"} >= {"wav16", "vorbis", "mp3"}


def test_the_same_seed_gives_the_same_damage() -> None:
    content = bytes(range(256)) * 20
    assert [mutate(content, seed) for seed in range(20)] == [mutate(content, seed) for seed in range(20)]
    assert sum(mutate(content, seed) != content for seed in range(100)) > 95

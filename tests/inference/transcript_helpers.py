"""Words with known speakers, for the tests and the benchmark of transcripts."""

import numpy as np

from separative.rttm import Turn


def place_words(turns: list[Turn], seed: int) -> list[tuple[float, float, str]]:
    """Words of 0.15 to 0.5 s with short pauses, all the time that a speaker speaks; sorted by start."""
    rng, words = np.random.default_rng(seed), []
    for turn in turns:
        at = turn.start
        while at < turn.end - 0.1:
            end = min(turn.end, at + rng.uniform(0.15, 0.5))
            words.append((at, end, turn.speaker))
            at = end + rng.uniform(0, 0.08)
    return sorted(words)

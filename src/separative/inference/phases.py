"""Run the windows of a recording, several times if it is short, and adapt the activity to its levels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from separative.inference.windows import (
    MAX_MEMORY_SEGMENTS,
    SILENCE_DB,
    WindowCache,
    WindowGrid,
    WindowOutputs,
    run_windows,
)
from separative.types import Floats, Progress, Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

SHORT_SECONDS, PHASES = 90.0, 8
"""The model runs PHASES times over a recording of up to SHORT_SECONDS, half as often over one twice as long.

Each run is a phase: its windows and segments begin at different samples. A short recording has few windows,
so a single one close to a threshold could change the number of speakers. Several phases give more evidence,
and they increase the time resolution of the activity.
"""

SPEECH_SHIFT, LEVEL_WEIGHT = -0.5, 0.6
"""Added to the log-odds of speech of the network, and the weight of the level. Both were chosen on simulated
conversations (docs/experiments.md)."""

MIN_SPREAD_DB, MAX_BEYOND_DB, LEVEL_ROUNDS = 6.0, 20.0, 8
"""Minimum standard deviation of the levels of speech and of the background, how far beyond their means a
level still counts, and the number of times that both are estimated."""

EVIDENCE_PER_DB = 0.15
"""Evidence for speech per dB of level, in log-odds of the network."""


def phase_count(seconds: float) -> int:
    """Return how often the model runs over a recording of this length: 8, 4, 2 or 1 times.

    Example:
        >>> [phase_count(seconds) for seconds in (30, 90, 91, 180, 360, 3600)]
        [8, 8, 4, 4, 2, 1]
    """
    count = PHASES
    while count > 1 and count * seconds > PHASES * SHORT_SECONDS:
        count //= 2
    return count


def run_phases(
    model: SeparativeEncoder,
    blocks: Iterable[Wave],
    grid: WindowGrid,
    seconds: float,
    cache: WindowCache | None,
    progress: Progress | None,
) -> WindowOutputs:
    """Run the model over all windows, once per phase.

    Arguments as in :func:`run_windows`. The activity is adapted to the levels of the recording.

    Example:
        >>> import separative
        >>> from separative import audio
        >>> model = separative.load_model()
        >>> wave, rate = audio.read("meeting.wav")
        >>> grid = WindowGrid.for_model(model, 2.0, 1.0)
        >>> windows = run_phases(model, [wave], grid, len(wave) / rate, cache=None, progress=None)
        >>> len(windows.phases)
        8
    """
    samples = round(seconds * model.rate)
    count = phase_count(seconds)
    if count == 1:
        return adapt_activity((run_windows(model, blocks, grid, samples, cache=cache, progress=progress),))[0]
    all_blocks = list(blocks)
    # Each phase puts more silence in front of the recording: about 1/count of a hop to move the windows,
    # plus 1/count of a segment to move the segments.
    step = grid.segment // count
    offset = grid.hop * grid.segment // count // step * step + step
    outputs = [
        run_windows(
            model,
            all_blocks,
            grid,
            samples,
            offset=phase * offset,
            cache=None if phase else cache,
            progress=_phase_progress(progress, phase, count, samples),
        )
        for phase in range(count)
    ]
    # The phases share one memory, which is thinned to the usual size.
    memory = np.concatenate([output.memory for output in outputs])
    logit = np.concatenate([output.memory_logit for output in outputs])
    thinned = slice(None, None, max(1, -(-len(memory) // MAX_MEMORY_SEGMENTS)))
    first, *shifted = adapt_activity(outputs)
    return replace(first, memory=memory[thinned], memory_logit=logit[thinned], shifted=tuple(shifted))


def _phase_progress(progress: Progress | None, phase: int, count: int, samples: int) -> Progress | None:
    """Wrap ``progress`` for the run of one phase, so that it counts the samples of all phases."""
    if progress is None:
        return None
    return lambda done, _: progress(phase * samples + min(done, samples), count * samples)


def adapt_activity(phases: Sequence[WindowOutputs]) -> list[WindowOutputs]:
    """Adapt the probability of speech in all phases to the levels of speech and background in the recording.

    The model normalises the level of each window, so it may report speech in a window that has only quiet
    background. Here the levels of speech and of the background are estimated from all segments, with the
    probabilities of speech as weights (expectation maximisation for two Gaussians with the same variance).
    Segments at the level of the background become less probable, in all streams. Segments at the level of
    speech become more probable, in the most active stream only: level says little about a second speaker.

    Example:
        >>> import separative
        >>> windows = separative.diarize(separative.load_model(), "meeting.wav").windows
        >>> len(adapt_activity(windows.phases)) == len(windows.phases)
        True
    """
    activity_WCS = np.concatenate([phase.raw_activity for phase in phases])
    level_WS = np.concatenate([phase.level_db for phase in phases])
    logit_WCS = log_odds(activity_WCS) + SPEECH_SHIFT
    # Digital silence does not enter the levels.
    heard_WS = (level_WS > SILENCE_DB + 10) & (activity_WCS.max(1) > 0)
    gain_WS = LEVEL_WEIGHT * _level_log_odds(level_WS, logit_WCS.max(1), heard_WS)
    most_WCS = logit_WCS == logit_WCS.max(1, keepdims=True)
    gain_WCS = np.minimum(gain_WS, 0)[:, None] + np.maximum(gain_WS, 0)[:, None] * most_WCS
    adapted_WCS = (heard_WS[:, None] & (activity_WCS > 0)) / (1 + np.exp(-logit_WCS - gain_WCS))
    parts = np.split(
        adapted_WCS.astype(np.float32), np.cumsum([len(phase.activity) for phase in phases])[:-1]
    )
    return [
        replace(phase, activity=part_WCS, network_activity=phase.raw_activity)
        for phase, part_WCS in zip(phases, parts, strict=True)
    ]


def _level_log_odds(level_WS: Floats, logit_WS: Floats, heard_WS: NDArray[np.bool_]) -> Floats:
    """Log-odds of speech against background from the level [W,S]; 0 if they have no different levels."""
    gain_WS = np.zeros(level_WS.shape)
    level_U = level_WS[heard_WS]
    if not len(level_U):
        return gain_WS
    for _ in range(LEVEL_ROUNDS):
        speech_U = 1 / (1 + np.exp(-logit_WS[heard_WS] - LEVEL_WEIGHT * gain_WS[heard_WS]))
        loud = (speech_U * level_U).sum() / max(speech_U.sum(), 1e-9)
        quiet = ((1 - speech_U) * level_U).sum() / max((1 - speech_U).sum(), 1e-9)
        if quiet > loud - 1:
            return np.zeros(level_WS.shape)
        variance = (speech_U * (level_U - loud) ** 2 + (1 - speech_U) * (level_U - quiet) ** 2).mean()
        level = np.clip(level_WS, quiet - MAX_BEYOND_DB, loud + MAX_BEYOND_DB)
        gain_WS = (loud - quiet) / max(variance, MIN_SPREAD_DB**2) * (level - (loud + quiet) / 2)
    return gain_WS


def speech_evidence(windows: WindowOutputs) -> Floats:
    """Evidence for speech in each segment of one phase [W, C, S], positive or negative.

    It is the log-odds of the network, and the level below the loud segments of the recording. Noise next to
    speech is quieter and less certain, even where the network calls it active.

    Example:
        >>> import separative
        >>> windows = separative.diarize(separative.load_model(), "meeting.wav").windows
        >>> speech_evidence(windows)[windows.activity > 0.9].mean() > 0
        np.True_
    """
    heard_U = windows.level_db[windows.level_db > SILENCE_DB + 10]
    loud = float(np.percentile(heard_U, 95)) if len(heard_U) else 0.0
    evidence: Floats = log_odds(windows.raw_activity) + EVIDENCE_PER_DB * (windows.level_db - loud)[:, None]
    return evidence


def log_odds(probability: Floats) -> Floats:
    """Return the log-odds of probabilities, of which 0 and 1 are moved inwards by 1e-5.

    Example:
        >>> log_odds(np.array([0.5, 0.9])).round(3)
        array([0.   , 2.197])
    """
    inner = np.clip(probability.astype(np.float64), 1e-5, 1 - 1e-5)
    odds: Floats = np.log(inner / (1 - inner))
    return odds

"""Run the windows of a recording: once, or several times at other positions if the recording is short."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from separative.inference.windows import (
    MAX_MEMORY_SEGMENTS,
    SILENCE_DB,
    WindowCache,
    WindowGrid,
    WindowOutputs,
    run_windows,
)
from separative.types import Progress, Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

SHORT_SECONDS, PHASES = 90.0, 8
"""The model runs PHASES times over a recording of up to SHORT_SECONDS.

Each run is a phase: its windows and segments begin at different samples. A short recording has few windows,
so a single one close to a threshold could change the number of speakers. Several phases give more evidence,
and they increase the time resolution of the activity by a factor of PHASES.
"""

LEVEL_RANGE_DB = 35.0
"""A segment is not speech if its level is this far below the 95th percentile of the recording."""


def phase_count(seconds: float) -> int:
    """Return how often the model runs over a recording of this length.

    Example:
        >>> [phase_count(seconds) for seconds in (30, 90, 91)]
        [8, 8, 1]
    """
    return PHASES if seconds <= SHORT_SECONDS else 1


def run_phases(
    model: SeparativeEncoder,
    blocks: Iterable[Wave],
    grid: WindowGrid,
    seconds: float,
    cache: WindowCache | None,
    progress: Progress | None,
) -> WindowOutputs:
    """Run the model over all windows; for a short recording once per phase.

    Arguments as in :func:`run_windows`. Segments that are too quiet to be speech have an activity of 0.

    Example:
        >>> import separative
        >>> from separative import audio
        >>> model = separative.load_model()
        >>> wave, rate = audio.read("meeting.wav")
        >>> grid = WindowGrid.for_model(model, 2.0, 1.0)
        >>> windows = run_phases(model, [wave], grid, len(wave) / rate, cache=None, progress=None)
        >>> len(windows.phases) == PHASES
        True
    """
    samples = round(seconds * model.rate)
    if phase_count(seconds) == 1:
        windows = run_windows(model, blocks, grid, samples, cache=cache, progress=progress)
        return adapt_activity([windows])[0]
    all_blocks = list(blocks)
    # Each phase puts more silence in front of the recording: about 1/PHASES of a hop to move the windows,
    # plus 1/PHASES of a segment to move the segments.
    step = grid.segment // PHASES
    offset = grid.hop * grid.segment // PHASES // step * step + step
    outputs = [
        run_windows(
            model,
            all_blocks,
            grid,
            samples,
            offset=phase * offset,
            cache=None if phase else cache,
            progress=_phase_progress(progress, phase, samples),
        )
        for phase in range(PHASES)
    ]
    # The phases share one memory, which is thinned to the usual size.
    memory = np.concatenate([output.memory for output in outputs])
    logit = np.concatenate([output.memory_logit for output in outputs])
    thinned = slice(None, None, max(1, -(-len(memory) // MAX_MEMORY_SEGMENTS)))
    first, *shifted = adapt_activity(outputs)
    return replace(first, memory=memory[thinned], memory_logit=logit[thinned], shifted=tuple(shifted))


def _phase_progress(progress: Progress | None, phase: int, samples: int) -> Progress | None:
    """Wrap ``progress`` for the run of one phase, so that it counts the samples of all phases."""
    if progress is None:
        return None
    return lambda done, _: progress(phase * samples + min(done, samples), PHASES * samples)


def adapt_activity(phases: Sequence[WindowOutputs]) -> list[WindowOutputs]:
    """Set the activity of segments that are too quiet to be speech to 0, see LEVEL_RANGE_DB.

    The model normalises the level of each window. It may report speech in a window that has only quiet
    background, because that is then as loud as speech.

    Example:
        >>> import separative
        >>> windows = separative.diarize(separative.load_model(), "meeting.wav").windows
        >>> len(adapt_activity(windows.phases)) == len(windows.phases)
        True
    """
    return [_mute_quiet(phase) for phase in phases]


def _mute_quiet(windows: WindowOutputs) -> WindowOutputs:
    # Digital silence does not enter the percentile.
    level_U = windows.level_db[windows.level_db > SILENCE_DB + 10]
    if not len(level_U):
        return windows
    loud_WS = windows.level_db >= np.percentile(level_U, 95) - LEVEL_RANGE_DB
    return replace(windows, activity=windows.activity * loud_WS[:, None])

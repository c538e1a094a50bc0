"""Diarizations that know a part of the reference; they show which part of a system costs what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from separative.evaluation.references import FRAME
from separative.inference.speakers import describe_speakers
from separative.inference.windows import WindowOutputs
from separative.rttm import Turn
from separative.types import Floats

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

Activity = NDArray[np.bool_]


def with_true_speech(found: Activity, speech: Activity) -> Activity:
    """Correct where a diarization finds speech, but not which speakers it finds.

    Where there is no speech, no speaker remains. Where there is speech but no speaker was found, the speaker
    found nearest in time speaks. If no speaker was found at all, one speaker has all the speech.

    Args:
        found: activity of the C speakers found in each frame [C, T].
        speech: whether there is speech in each frame [T].

    >>> found = np.array([[1, 0, 0, 0, 0], [0, 0, 0, 1, 1]], bool)
    >>> with_true_speech(found, np.array([1, 1, 1, 1, 0], bool)).astype(int)
    array([[1, 1, 0, 0, 0],
           [0, 0, 1, 1, 0]])
    """
    if not found.any():
        return speech[None]
    frames = np.arange(found.shape[1])
    spoken = np.flatnonzero(found.any(0))
    after = np.searchsorted(spoken, frames).clip(0, len(spoken) - 1)
    before = (after - 1).clip(0)
    is_before = np.abs(frames - spoken[before]) < np.abs(spoken[after] - frames)
    nearest = np.where(is_before, spoken[before], spoken[after])
    filled: Activity = found[:, nearest] & speech
    return filled


def with_true_speakers(model: SeparativeEncoder, windows: WindowOutputs, reference: Activity) -> list[Turn]:
    """Give each stream of each window to the speaker of the reference who speaks most while it is active.

    A stream belongs to no speaker if no speaker speaks while it is active. The false alarms that remain are
    in windows in which a speaker speaks for a part of the time.

    Args:
        windows: outputs of the model for every window.
        reference: activity of the K speakers in frames of FRAME seconds [K, T].

    Returns:
        the turns; the names of the speakers have no meaning.

    >>> import separative
    >>> model = separative.load_model()
    >>> windows = separative.diarize(model, "meeting.wav").windows
    >>> turns = with_true_speakers(model, windows, np.ones((1, 1966), bool))
    >>> {turn.speaker for turn in turns}
    {'speaker1'}
    """
    label_WC = np.concatenate(
        [
            np.where(shared_WCK.any(-1), shared_WCK.argmax(-1), -1)
            for shared_WCK in (shared_segments(phase, model.rate, reference) for phase in windows.phases)
        ]
    )
    # Speakers without a stream get no label.
    _, number_N = np.unique(np.append(label_WC.ravel(), -1), return_inverse=True)
    speakers, _ = describe_speakers(model, windows, number_N[:-1].reshape(label_WC.shape) - 1)
    return [turn for speaker in speakers for turn in speaker.turns]


def shared_segments(windows: WindowOutputs, rate: int, reference: Activity) -> Floats:
    """Number of segments in which a stream of a window is active while a speaker speaks [W, C, K].

    Args:
        windows: outputs of the model, of one phase.
        rate: sampling rate of the model in hertz.
        reference: activity of the K speakers in frames of FRAME seconds [K, T].

    >>> import separative
    >>> windows = separative.diarize(separative.load_model(), "meeting.wav").windows
    >>> shared_segments(windows, 16000, np.ones((3, 1966), bool)).shape
    (19, 2, 3)
    """
    grid, active_WCS = windows.grid, windows.activity > 0.5
    # The reference frame in the middle of each segment of each window.
    segment_WS = grid.hop * np.arange(len(active_WCS))[:, None] + np.arange(grid.window)
    second_WS = ((segment_WS + 0.5) * grid.segment - grid.lead - windows.offset) / rate
    inside_WS = (second_WS >= 0) & (second_WS < reference.shape[1] * FRAME)
    frame_WS = (second_WS / FRAME).astype(int).clip(0, reference.shape[1] - 1)
    speaks_KWS = reference[:, frame_WS] & inside_WS
    shared_WCK: Floats = np.einsum(
        "wcs,kws->wck", active_WCS.astype(np.float32), speaks_KWS.astype(np.float32)
    )
    return shared_WCK

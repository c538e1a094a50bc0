"""The speakers of a recording, from the streams of its windows: turns, embedding and activity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from separative.inference.activity import speaker_activity, talking
from separative.inference.cluster import mean_embedding
from separative.inference.windows import WindowOutputs, attend_recording
from separative.rttm import Turn, frames_to_turns
from separative.types import Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

INSET = 0.5
"""How much a turn is shortened at each end, in segments.

The model reports speech for a segment even if only a part of it has speech. On average, the first half of the
first segment of a turn and the second half of its last segment are silent.
"""


@dataclass(frozen=True, repr=False)
class Speaker:
    """A speaker of a diarized recording.

    Attributes:
        name: "speaker1", "speaker2", ...
        turns: when the speaker talks, in seconds.
        embedding: embedding over the whole recording [E], unit norm.
        activity: probability of speech [T], one value every ``Diarization.segment_seconds``.

    Example:
        >>> import separative
        >>> speaker = separative.diarize(separative.load_model(), "meeting.wav").speakers[0]
        >>> speaker.name, speaker.embedding.shape, speaker.activity.shape
        ('speaker1', (128,), (2464,))
    """

    name: str
    turns: tuple[Turn, ...]
    embedding: Wave
    activity: Wave

    @property
    def speech_seconds(self) -> float:
        """Total length of the turns."""
        return sum(turn.end - turn.start for turn in self.turns)

    def __repr__(self) -> str:
        return f"Speaker({self.name!r}, {self.speech_seconds:.1f} s in {len(self.turns)} turns)"


def describe_speakers(
    model: SeparativeEncoder, windows: WindowOutputs, labels: NDArray[np.int64], *, attention: bool = True
) -> tuple[tuple[Speaker, ...], NDArray[np.int64]]:
    """Make a :class:`Speaker` of the streams with the same label, the one with the most speech first.

    Args:
        windows: outputs of the model for every window.
        labels: label of each stream in each window [W, C], 0 to K - 1, or -1 for none. W counts the windows
            of all phases, one phase after the other.
        attention: as in :func:`diarize`.

    Returns:
        the K speakers, and the index of the speaker of each stream in the windows of the first phase [W, C].

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> windows = separative.diarize(model, "meeting.wav").windows
        >>> labels = np.zeros((sum(len(phase.query) for phase in windows.phases), 2), int)
        >>> speakers, _ = describe_speakers(model, windows, labels)
        >>> len(speakers)
        1
    """
    label_WC, grid, phases = labels, windows.grid, windows.phases
    count = int(label_WC.max(initial=-1)) + 1
    query_WCE = np.concatenate([phase.query for phase in phases])
    speech_WC = np.concatenate([(phase.activity > 0.5).sum(-1, dtype=np.float32) for phase in phases])
    query_KE = np.zeros((count, query_WCE.shape[2]), np.float32)
    for k in range(count):
        query_KE[k] = mean_embedding(query_WCE[label_WC == k], speech_WC[label_WC == k])
    embed_KE = attend_recording(model, query_KE, windows, attention=attention) if count else query_KE
    activity_KT = speaker_activity(windows, label_WC, count)
    length, end, shift = grid.segment / model.rate, windows.samples / model.rate, grid.lead / model.rate
    turns_K = [
        [(max(0.0, t.start - shift), min(end, t.end - shift)) for t in turns]
        for turns in (
            frames_to_turns(talking(a_T)[None], [""], length / len(phases), inset=INSET * length)
            for a_T in activity_KT
        )
    ]
    # start - stop is negative, so that the speaker with the most speech is first.
    order = sorted(range(count), key=lambda k: sum(start - stop for start, stop in turns_K[k]))
    speakers: list[Speaker] = []
    for k in order:
        name = f"speaker{len(speakers) + 1}"
        turns = tuple(Turn(name, start, stop) for start, stop in turns_K[k])
        speakers.append(Speaker(name, turns, embed_KE[k], activity_KT[k]))
    rank = np.array([*np.argsort(order), -1], np.int64)
    return tuple(speakers), rank[label_WC[: len(windows.query)]]

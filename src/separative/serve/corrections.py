"""Corrections that a person makes to the speakers and turns of a diarized recording."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from separative.errors import SeparativeError
from separative.inference import Diarization, Speaker
from separative.inference.cluster import mean_embedding
from separative.inference.windows import attend_recording
from separative.rttm import Turn
from separative.types import Floats, Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

# Seconds. The shortest turn that a split may leave, and how far before and after its times a turn's speech
# moves with it to another speaker.
MIN_SPLIT, MARGIN = 0.1, 0.15
# Seconds of the fade where speech moves from one speaker to another.
FADE = 0.02


class Piece(NamedTuple):
    """A turn, or a part of one: who was found to speak, when, and who really speaks.

    ``confidence`` is the probability that the turn is right; None where a person has corrected it.

    >>> Piece(found=0, start=0.5, end=2.0, speaker=1).speaker
    1
    """

    found: int
    start: float
    end: float
    speaker: int
    confidence: float | None = None


@dataclass(frozen=True)
class Corrections:
    """Speakers and turns of a recording after corrections.

    Speakers are counted from 0 and keep their numbers: first the speakers that were found, then those that a
    person has added.

    Attributes:
        owner: for each speaker that was found, the speaker who has the speech outside of ``pieces``.
        names: name of each speaker, as given by a person; empty for none.
        pieces: the turns, sorted by start. Turns that were split have several pieces.

    >>> from separative import diarize, load_model
    >>> found = Corrections.of(diarize(load_model(), "meeting.wav", speakers=2))
    >>> merged = found.merge(1, 0)
    >>> found.speakers, merged.speakers
    ((0, 1), (0,))
    """

    owner: tuple[int, ...]
    names: tuple[str, ...]
    pieces: tuple[Piece, ...]

    @staticmethod
    def of(diarization: Diarization) -> Corrections:
        """The speakers and turns as they were found."""
        count = len(diarization.speakers)
        pieces = [
            Piece(k, turn.start, turn.end, k, turn.confidence)
            for k, speaker in enumerate(diarization.speakers)
            for turn in speaker.turns
        ]
        return Corrections(tuple(range(count)), ("",) * count, _sorted(pieces))

    @property
    def speakers(self) -> tuple[int, ...]:
        """Numbers of the speakers who have a turn."""
        return tuple(sorted({piece.speaker for piece in self.pieces}))

    def turns(self, speaker: int) -> list[Turn]:
        """The turns of a speaker. Pieces that overlap are one turn."""
        name = f"speaker{speaker + 1}"
        return [
            Turn(
                name,
                group[0].start,
                max(p.end for p in group),
                group[0].confidence if len(group) == 1 else None,
            )
            for group in self._groups(speaker)
        ]

    def rename(self, speaker: int, name: str) -> Corrections:
        """Give a speaker a name; an empty one removes it.

        Raises:
            SeparativeError: there is no such speaker, or another speaker has the name.
        """
        self._check(speaker)
        if name and any(self.names[other] == name for other in self.speakers if other != speaker):
            raise SeparativeError(
                f"another speaker is '{name}' already; merge the two if they are one person"
            )
        return replace(self, names=tuple(name if k == speaker else old for k, old in enumerate(self.names)))

    def merge(self, speaker: int, into: int) -> Corrections:
        """Make two speakers one. The name of ``into`` stays, or that of ``speaker`` if it has none.

        Raises:
            SeparativeError: there is no such speaker, or both are the same.
        """
        self._check(speaker, into)
        if speaker == into:
            raise SeparativeError("a speaker cannot be merged with itself; choose another speaker")
        names = list(self.names)
        names[into] = names[into] or names[speaker]
        names[speaker] = ""
        return Corrections(
            tuple(into if owner == speaker else owner for owner in self.owner),
            tuple(names),
            _sorted(
                p._replace(speaker=into, confidence=None) if p.speaker == speaker else p for p in self.pieces
            ),
        )

    def split(self, speaker: int, turn: int, at: float) -> Corrections:
        """Split a turn of a speaker in two at a time.

        Raises:
            SeparativeError: there is no such turn, or the time is not inside it.
        """
        group = self._turn(speaker, turn)
        start, end = group[0].start, max(piece.end for piece in group)
        if not start + MIN_SPLIT <= at <= end - MIN_SPLIT:
            raise SeparativeError(
                f"{at:.2f} s is not inside the turn from {start:.2f} to {end:.2f} s; move the playhead there"
            )
        parts: list[Piece] = []
        for piece in group:
            if piece.start < at < piece.end:
                piece = piece._replace(confidence=None)
                parts += [piece._replace(end=at), piece._replace(start=at)]
            else:
                parts.append(piece)
        return replace(self, pieces=_sorted([*(p for p in self.pieces if p not in group), *parts]))

    def assign(self, speaker: int, turn: int, to: int | None) -> Corrections:
        """Give a turn of a speaker to another speaker; None adds a speaker.

        Raises:
            SeparativeError: there is no such turn or speaker.
        """
        group, names = self._turn(speaker, turn), self.names
        if to is None:
            to, names = len(names), (*names, "")
        else:
            self._check(to)
        moved = [piece._replace(speaker=to, confidence=None) for piece in group]
        kept = [piece for piece in self.pieces if piece not in group]
        return Corrections(self.owner, names, _sorted([*kept, *moved]))

    def spans(self, found: int) -> list[tuple[float, int]]:
        """Who has the speech of a speaker that was found: the time from which on, and the speaker."""
        own = [piece for piece in self.pieces if piece.found == found]
        spans = [(0.0, self.owner[found])]
        for number, piece in enumerate(own):
            before = own[number - 1].end if number else 0.0
            after = own[number + 1].start if number + 1 < len(own) else piece.end + 2 * MARGIN
            start = piece.start - min(MARGIN, max(0.0, piece.start - before) / 2)
            end = piece.end + min(MARGIN, max(0.0, after - piece.end) / 2)
            spans += [(start, piece.speaker), (end, self.owner[found])]
        # A later span that begins at the same time replaces the earlier one.
        return list(dict(spans).items())

    def _groups(self, speaker: int) -> list[list[Piece]]:
        groups: list[list[Piece]] = []
        end = -1.0
        for piece in self.pieces:
            if piece.speaker != speaker:
                continue
            if piece.start < end:
                groups[-1].append(piece)
            else:
                groups.append([piece])
            end = max(end, piece.end) if piece.start < end else piece.end
        return groups

    def _turn(self, speaker: int, turn: int) -> list[Piece]:
        self._check(speaker)
        groups = self._groups(speaker)
        if not 0 <= turn < len(groups):
            raise SeparativeError(f"the speaker has {len(groups)} turns, no turn {turn + 1}; reload the page")
        return groups[turn]

    def _check(self, *speakers: int) -> None:
        for speaker in speakers:
            if speaker not in self.speakers:
                raise SeparativeError(f"the recording has no speaker {speaker + 1}; reload the page")


def correct(
    model: SeparativeEncoder,
    diarization: Diarization,
    corrections: Corrections,
) -> Diarization:
    """Apply corrections: turns, activity, embeddings and the speakers of windows.

    The speakers are those of ``corrections.speakers``, in this order. Speakers who were not changed keep
    their embeddings. The embedding of any other speaker is computed from the windows of this speaker. Names
    are "speaker1" and so on.

    >>> from separative import diarize, load_model
    >>> model = load_model()
    >>> found = diarize(model, "meeting.wav", speakers=2)
    >>> merged = correct(model, found, Corrections.of(found).merge(1, 0))
    >>> [speaker.name for speaker in merged.speakers]
    ['speaker1']
    """
    owner_WC = _window_owners(diarization, corrections)
    rank = {k: place for place, k in enumerate(corrections.speakers)}
    changed = [k for k in corrections.speakers if not _unchanged(corrections, k)]
    attended = dict(
        zip(changed, _embeddings(model, diarization, owner_WC, corrections, changed), strict=True)
    )
    speakers: list[Speaker] = []
    for k in corrections.speakers:
        template = diarization.speakers[next(p.found for p in corrections.pieces if p.speaker == k)]
        speakers.append(
            replace(
                template,
                name=f"speaker{k + 1}",
                turns=tuple(corrections.turns(k)),
                embedding=attended.get(k, template.embedding),
                activity=_activity(diarization, corrections, k),
            )
        )
    place_WC = np.array([[rank.get(k, -1) for k in row] for row in owner_WC.tolist()], np.int64)
    return replace(diarization, speakers=tuple(speakers), window_speaker=place_WC.reshape(owner_WC.shape))


def gain(corrections: Corrections, found: int, speaker: int) -> tuple[Floats, Floats]:
    """How much of the speech that was found for one speaker belongs to a speaker: times, and gains of 0 to 1.

    Between two times the gain is a straight line.

    >>> corrections = Corrections((0, 1), ("", ""), (Piece(0, 1.0, 2.0, 1), Piece(0, 3.0, 4.0, 0)))
    >>> time, value = gain(corrections, 0, 1)
    >>> np.interp([0.5, 1.5, 2.5], time, value)
    array([0., 1., 0.])
    """
    spans = corrections.spans(found)
    times, values = [0.0], [float(spans[0][1] == speaker)]
    for start, k in spans[1:]:
        value = float(k == speaker)
        if value != values[-1]:
            times += [max(times[-1], start - FADE / 2), start + FADE / 2]
            values += [values[-1], value]
    return np.array(times), np.array(values)


def sources(corrections: Corrections, speaker: int) -> list[int]:
    """The speakers that were found and that gave a speaker at least a part of their speech.

    >>> sources(Corrections((0, 0), ("", ""), (Piece(0, 0.0, 1.0, 0), Piece(1, 1.0, 2.0, 0))), 0)
    [0, 1]
    """
    return [
        found
        for found in range(len(corrections.owner))
        if any(k == speaker for _, k in corrections.spans(found))
    ]


def _sorted(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    return tuple(sorted(pieces, key=lambda piece: (piece.start, piece.end, piece.found)))


def _unchanged(corrections: Corrections, speaker: int) -> bool:
    """True for a speaker with all of the speech that was found for them, and no other."""
    return sources(corrections, speaker) == [speaker] and {k for _, k in corrections.spans(speaker)} == {
        speaker
    }


def _window_owners(diarization: Diarization, corrections: Corrections) -> NDArray[np.int64]:
    """The speaker of each stream in each window [W, C]; -1 for none."""
    label_WC, grid = diarization.window_speaker, diarization.windows.grid
    middle_W = (
        np.arange(len(label_WC)) * grid.hop * grid.segment - grid.lead + grid.window * grid.segment / 2
    ) / diarization.rate
    owner_WC = np.full_like(label_WC, -1)
    for found, owner in enumerate(corrections.owner):
        spans = corrections.spans(found)
        begin = np.array([start for start, _ in spans])
        holder_W = np.array([k for _, k in spans])[np.searchsorted(begin, middle_W, "right").clip(1) - 1]
        own_WC = label_WC == found
        for piece in (p for p in corrections.pieces if p.found == found and p.speaker != owner):
            # A short turn may lie between the middles of two windows.
            distance_W = np.abs(middle_W - (piece.start + piece.end) / 2)
            distance_W[~own_WC.any(1)] = np.inf
            if len(distance_W) and np.isfinite(nearest := distance_W.min()) and nearest <= 2.0:
                holder_W[distance_W.argmin()] = piece.speaker
        owner_WC = np.where(own_WC, holder_W[:, None], owner_WC)
    return owner_WC


def _embeddings(
    model: SeparativeEncoder,
    diarization: Diarization,
    owner_WC: NDArray[np.int64],
    corrections: Corrections,
    changed: Sequence[int],
) -> Floats:
    """Embeddings of speakers [K, E] from their windows."""
    windows = diarization.windows
    speech_WC = (windows.activity > 0.5).sum(-1).astype(np.float32)
    query_KE = np.zeros((len(changed), windows.query.shape[2]), np.float32)
    for row, k in enumerate(changed):
        own_WC = owner_WC == k
        if own_WC.any():
            query_KE[row] = mean_embedding(windows.query[own_WC], speech_WC[own_WC])
        else:
            # A turn without a window of its own: the nearest there is to it is the speaker that was found.
            query_KE[row] = diarization.speakers[sources(corrections, k)[0]].embedding
    return attend_recording(model, query_KE, windows) if len(changed) else query_KE


def _activity(diarization: Diarization, corrections: Corrections, speaker: int) -> Wave:
    """Probability of speech of a speaker [T]: of those who were found, where it belongs to them."""
    activity_T = np.zeros_like(diarization.speakers[0].activity)
    step = diarization.segment_seconds
    time_T = (np.arange(len(activity_T)) + 0.5) * step - diarization.windows.grid.lead / diarization.rate
    for found in sources(corrections, speaker):
        gain_T = np.interp(time_T, *gain(corrections, found, speaker)).astype(np.float32)
        activity_T = np.maximum(activity_T, gain_T * diarization.speakers[found].activity)
    return activity_T

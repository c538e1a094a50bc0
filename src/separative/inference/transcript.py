"""Transcripts with speakers: the segments of a speech recogniser, split where the speaker changes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from separative.inference.word_speakers import assign_words
from separative.rttm import Turn

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TranscriptWord:
    """A word of a transcript.

    Attributes:
        text: the word, as it is written in the transcript.
        start, end: seconds.
        speaker: name of the speaker; None if not known.

    Example:
        >>> TranscriptWord("hello", 0.5, 0.9).speaker is None
        True
    """

    text: str
    start: float
    end: float
    speaker: str | None = None


@dataclass(frozen=True)
class TranscriptSegment:
    """A segment of a transcript: a sentence or a subtitle.

    Attributes:
        start, end: seconds.
        text: what is said.
        words: its words; empty if the transcript has times of segments only.
        speaker: name of the speaker; None if not known.

    Example:
        >>> TranscriptSegment(0.5, 2.0, "hello ann").words
        ()
    """

    start: float
    end: float
    text: str
    words: tuple[TranscriptWord, ...] = ()
    speaker: str | None = None


def add_speakers(
    segments: Sequence[TranscriptSegment],
    turns: Iterable[Turn],
    *,
    exclusive: Sequence[Turn] = (),
    seconds: float | None = None,
) -> list[TranscriptSegment]:
    """Find the speaker of each word, and split segments where the speaker changes.

    A segment without word times is not split: it gets one speaker. A segment far from every turn has no
    speaker.

    Args:
        segments: a transcript, see :func:`read_transcript`.
        turns: turns of the speakers, which may overlap.
        exclusive: turns with one speaker at a time (:func:`exclusive_turns`), if known.
        seconds: length of the recording, if known. What starts after it gets no speaker, and is reported in
            a warning.

    Returns:
        the segments, sorted by start.

    Example:
        >>> words = (TranscriptWord("Hello.", 0.0, 0.4), TranscriptWord("Hi!", 1.2, 1.5))
        >>> turns = [Turn("ann", 0.0, 1.0), Turn("bob", 1.0, 2.0)]
        >>> for segment in add_speakers([TranscriptSegment(0.0, 1.5, "Hello. Hi!", words)], turns):
        ...     print(segment.speaker, segment.text)
        ann Hello.
        bob Hi!
    """
    # Each unit is a word, or a segment without words.
    units: list[tuple[float, float, int, int]] = []
    for number, segment in enumerate(segments):
        parts: Sequence[TranscriptWord | TranscriptSegment] = segment.words or (segment,)
        units += [(part.start, part.end, number, place) for place, part in enumerate(parts)]
    units.sort()
    late = 0 if seconds is None else sum(start >= seconds for start, *_ in units)
    if late:
        log.warning(
            "%d of %d words or segments of the transcript start after the end of the recording (%.2f s) and"
            " get no speaker; is it the transcript of this recording?",
            late,
            len(units),
            seconds,
        )
    timely = units[: len(units) - late]
    names = assign_words([unit[:2] for unit in timely], list(turns), exclusive)
    speaker_of = {unit[2:]: name for unit, name in zip(timely, names, strict=True)}
    found: list[TranscriptSegment] = []
    for number, segment in enumerate(segments):
        if segment.words:
            own = [speaker_of.get((number, place)) for place in range(len(segment.words))]
            found += _split(segment, _fill(own))
        else:
            found.append(replace(segment, speaker=speaker_of.get((number, 0))))
    return sorted(found, key=lambda segment: (segment.start, segment.end))


def _fill(names: list[str | None]) -> list[str | None]:
    """Give words without a speaker that of the word before, or of the first word with one."""
    last = next((name for name in names if name is not None), None)
    filled = []
    for name in names:
        last = name if name is not None else last
        filled.append(last)
    return filled


def _split(segment: TranscriptSegment, names: list[str | None]) -> list[TranscriptSegment]:
    """Split a segment where the speaker of its words changes."""
    words = [replace(word, speaker=name) for word, name in zip(segment.words, names, strict=True)]
    groups = [list(group) for _, group in groupby(words, key=lambda word: word.speaker)]
    if len(groups) == 1:
        return [replace(segment, words=tuple(words), speaker=words[0].speaker)]
    texts = _texts(segment.text, groups)
    return [
        TranscriptSegment(
            min(word.start for word in group),
            max(word.end for word in group),
            text,
            tuple(group),
            group[0].speaker,
        )
        for group, text in zip(groups, texts, strict=True)
    ]


def _texts(text: str, groups: list[list[TranscriptWord]]) -> list[str]:
    """The parts of a text that the groups of words stand for, with its own spaces and punctuation."""
    cuts, place = [0], 0
    for number, group in enumerate(groups):
        for first, word in enumerate(group):
            at = text.find(word.text.strip(), place)
            if at < 0:
                # The words are not those of the text.
                return [" ".join(word.text.strip() for word in group) for group in groups]
            if number and not first:
                cuts.append(at)
            place = at + len(word.text.strip())
    return [text[start:end].strip() for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True)]

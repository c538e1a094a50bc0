"""Read and write transcripts: Whisper and whisperX JSON, SRT and WebVTT."""

from __future__ import annotations

import html
import math
import re
from bisect import bisect
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from separative.errors import SeparativeError, choose
from separative.files import read_json, read_lines, replace_file, write_json
from separative.inference.formats import one_line, srt, vtt
from separative.inference.transcript import TranscriptSegment, TranscriptWord

INPUTS, OUTPUTS = (".json", ".srt", ".vtt"), (".json", ".srt", ".txt", ".vtt")
MAX_BYTES = 256 << 20
# Seconds. Words of a transcript without segments are one segment up to a longer pause.
PAUSE = 1.0

_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{2})[.,](\d{1,3})"
_CUE = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(\s.*)?")
_INSIDE = re.compile(rf"<{_TIME}>")


def read_transcript(path: str | Path) -> list[TranscriptSegment]:
    """Read a transcript: JSON of Whisper, whisperX, whisper.cpp or the OpenAI API, SRT or WebVTT.

    Words without times, such as numbers in whisperX, are placed between their neighbours. A segment whose
    words all have no times is a segment without words.

    Raises:
        SeparativeError: the file cannot be read, is none of these formats, or has no times.

    >>> _ = Path("talk.srt").write_text("1\\n00:00:00,500 --> 00:00:02,000\\nHello.\\n")
    >>> read_transcript("talk.srt")
    [TranscriptSegment(start=0.5, end=2.0, text='Hello.', words=(), speaker=None)]
    """
    path = Path(path)
    suffix = choose(path.suffix.lower(), INPUTS, f"suffix of {path}:")
    if suffix == ".json":
        return _read_whisper(path, read_json(path, limit=MAX_BYTES))
    return _read_cues(path)


def write_transcript(segments: Sequence[TranscriptSegment], path: str | Path) -> Path:
    """Write a transcript with speakers as ``.json`` (as whisperX does), ``.srt``, ``.vtt`` or ``.txt``.

    Raises:
        SeparativeError: the path has another suffix.

    >>> segments = [TranscriptSegment(0.5, 2.0, "Hello.", (), "ann")]
    >>> print(write_transcript(segments, "talk.srt").read_text())
    1
    00:00:00,500 --> 00:00:02,000
    ann: Hello.
    <BLANKLINE>
    """
    path = Path(path)
    suffix = output_suffix(path)
    if suffix == ".json":
        write_json(path, {"segments": [describe_segment(segment) for segment in segments]})
    elif suffix == ".vtt":
        cues = ((s.start, s.end, s.speaker or "", s.text) for s in segments)
        replace_file(path, vtt(cues).encode())
    elif suffix == ".srt":
        replace_file(path, srt((s.start, s.end, _line(s)) for s in segments).encode())
    else:
        replace_file(path, dialogue(segments).encode())
    return path


def output_suffix(path: Path) -> str:
    """Return the suffix of a file for :func:`write_transcript`.

    Raises:
        SeparativeError: the path has another suffix.

    >>> output_suffix(Path("talk.VTT"))
    '.vtt'
    """
    return choose(path.suffix.lower(), OUTPUTS, f"suffix of {path}:")


def dialogue(segments: Iterable[TranscriptSegment]) -> str:
    r"""Return a transcript for people to read: one line each time the speaker changes.

    >>> texts = [("ann", "Hello."), ("ann", "Who is it?"), ("bob", "Me.")]
    >>> dialogue(TranscriptSegment(i, i + 1, text, (), who) for i, (who, text) in enumerate(texts))
    'ann: Hello. Who is it?\nbob: Me.\n'
    """
    lines: list[list[str]] = []
    last: str | None = ""
    for segment in segments:
        if segment.speaker != last or not lines:
            lines.append([_line(segment)])
        else:
            lines[-1].append(one_line(segment.text))
        last = segment.speaker
    return "".join(" ".join(line) + "\n" for line in lines)


def describe_segment(segment: TranscriptSegment) -> dict[str, Any]:
    """Convert a segment to a record for JSON, with the keys of whisperX.

    >>> describe_segment(TranscriptSegment(0.5, 2.0, "Hello.", (), "ann"))
    {'start': 0.5, 'end': 2.0, 'text': 'Hello.', 'speaker': 'ann'}
    """
    times = {"start": round(segment.start, 3), "end": round(segment.end, 3)}
    speaker = {} if segment.speaker is None else {"speaker": segment.speaker}
    words = [
        {
            "word": word.text,
            "start": round(word.start, 3),
            "end": round(word.end, 3),
            **({} if word.speaker is None else {"speaker": word.speaker}),
        }
        for word in segment.words
    ]
    return times | {"text": segment.text} | speaker | ({"words": words} if words else {})


def _line(segment: TranscriptSegment) -> str:
    text = one_line(segment.text)
    return text if segment.speaker is None else f"{one_line(segment.speaker)}: {text}"


def _read_whisper(path: Path, content: Any) -> list[TranscriptSegment]:
    record = {"segments": content} if isinstance(content, list) else content
    entries = words = None
    if isinstance(record, dict):
        entries, words = record.get("segments"), record.get("words")
        if isinstance(record.get("transcription"), list):
            entries = [_from_whisper_cpp(entry) for entry in record["transcription"]]
    if not isinstance(entries, list) and isinstance(words, list):
        entries = _cut_at_pauses(_words(words, 0.0, math.inf))
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SeparativeError(
            f"{path} is not a transcript: it has no list 'segments'; pass JSON of Whisper or whisperX, SRT or"
            " WebVTT"
        )
    segments = [_read_segment(path, number, entry) for number, entry in enumerate(entries, 1)]
    segments.sort(key=lambda segment: segment.start)
    if isinstance(words, list) and segments and not any(segment.words for segment in segments):
        segments = _place_words(segments, _words(words, 0.0, math.inf))
    return segments


def _read_segment(path: Path, number: int, entry: dict[str, Any]) -> TranscriptSegment:
    start, end, listed = _seconds(entry.get("start")), _seconds(entry.get("end")), entry.get("words")
    listed = listed if isinstance(listed, list) else []
    words = _words(listed, start, end)
    if words:
        start = words[0].start if start is None else start
        end = max(word.end for word in words) if end is None else end
    if start is None or end is None or end < start:
        raise SeparativeError(
            f"{path}, segment {number}: neither the segment nor its words have valid times; make the"
            " transcript with timestamps"
        )
    text = entry.get("text")
    if not isinstance(text, str):
        text = " ".join(word.text.strip() for word in words)
    return TranscriptSegment(start, end, text.strip(), tuple(words))


def _words(entries: list[Any], start: float | None, end: float | None) -> list[TranscriptWord]:
    """The words of a list, empty if none has times; those without are placed between their neighbours."""
    texts, times = [], []
    for entry in entries:
        text = entry.get("word", entry.get("text")) if isinstance(entry, dict) else None
        if not isinstance(text, str) or not text.strip():
            continue
        first, last = _seconds(entry.get("start")), _seconds(entry.get("end"))
        texts.append(text)
        times.append(None if first is None or last is None or last < first else (first, last))
    known = [place for place, time in enumerate(times) if time is not None]
    if not known:
        return []
    words: list[TranscriptWord] = []
    for place, (text, time) in enumerate(zip(texts, times, strict=True)):
        if time is None:
            at = bisect(known, place)
            before, after = known[at - 1] if at else None, known[at] if at < len(known) else None
            time = _between(texts, times, place, before, after, start, end)
        words.append(TranscriptWord(text, *time))
    return words


def _between(
    texts: list[str],
    times: list[tuple[float, float] | None],
    place: int,
    before: int | None,
    after: int | None,
    start: float | None,
    end: float | None,
) -> tuple[float, float]:
    """The time of a word without one: its share, by letters, of the gap between the words with times."""
    left, right = (None if k is None else times[k] for k in (before, after))
    low = left[1] if left else min(start or 0.0, right[0] if right else math.inf)
    high = right[0] if right else max(low, end if end is not None and math.isfinite(end) else low)
    high = max(low, high)
    first = 0 if before is None else before + 1
    letters = [len(text) for text in texts[first : len(texts) if after is None else after]]
    done, total = sum(letters[: place - first]), sum(letters)
    step = (high - low) / total
    return low + done * step, low + (done + letters[place - first]) * step


def _place_words(segments: list[TranscriptSegment], words: list[TranscriptWord]) -> list[TranscriptSegment]:
    """Put words of a list of their own into the segments that contain their middle."""
    own: list[list[TranscriptWord]] = [[] for _ in segments]
    starts = [segment.start for segment in segments]
    for word in words:
        middle = (word.start + word.end) / 2
        number = max(0, bisect(starts, middle) - 1)
        # Between two segments, the nearer one.
        if number + 1 < len(segments) and starts[number + 1] - middle < middle - segments[number].end:
            number += 1
        own[number].append(word)
    return [
        TranscriptSegment(segment.start, segment.end, segment.text, tuple(inside))
        for segment, inside in zip(segments, own, strict=True)
    ]


def _cut_at_pauses(words: list[TranscriptWord]) -> list[dict[str, Any]]:
    """Segments of words without segments."""
    groups: list[list[TranscriptWord]] = []
    for word in words:
        if groups and word.start - groups[-1][-1].end < PAUSE:
            groups[-1].append(word)
        else:
            groups.append([word])
    return [{"words": [{"word": w.text, "start": w.start, "end": w.end} for w in group]} for group in groups]


def _from_whisper_cpp(entry: Any) -> Any:
    """A segment of whisper.cpp, whose times are milliseconds, with the keys of Whisper."""
    if not isinstance(entry, dict) or not isinstance(entry.get("offsets"), dict):
        return entry
    start, end = (_seconds(entry["offsets"].get(key)) for key in ("from", "to"))
    times = {"start": None if start is None else start / 1000, "end": None if end is None else end / 1000}
    return times | {"text": entry.get("text")}


def _seconds(value: Any) -> float | None:
    """A time of JSON; None if it is not a number of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 1e9 else None


def _read_cues(path: Path) -> list[TranscriptSegment]:
    """The cues of an SRT or WebVTT file."""
    segments: list[TranscriptSegment] = []
    lines = [*read_lines(path), ""]
    place = 0
    while place < len(lines):
        line = lines[place]
        place += 1
        if "-->" not in line:
            # Numbers of cues, notes, styles and empty lines.
            continue
        found = _CUE.fullmatch(line)
        start, end = (_clock(found.groups()[i : i + 4]) for i in (0, 4)) if found else (1.0, 0.0)
        if end < start:
            raise SeparativeError(
                f"{path}, line {place}: '{line}' is not the time of a cue (00:00:01,000 --> 00:00:02,000)"
            )
        text = []
        while place < len(lines) and lines[place].strip() and "-->" not in lines[place]:
            text.append(lines[place].strip())
            place += 1
        segments.append(_cue(path, start, end, " ".join(text)))
    if not segments:
        raise SeparativeError(f"{path} has no cues with times (00:00:01,000 --> 00:00:02,000)")
    return segments


def _cue(path: Path, start: float, end: float, text: str) -> TranscriptSegment:
    """A cue without its tags; WebVTT may have a time before each word."""
    vtt_cue = path.suffix.lower() == ".vtt"
    pieces = _INSIDE.split(text) if vtt_cue else [text]
    # The pieces are text, four groups of a time, text and so on.
    texts = [_plain(piece, vtt_cue) for piece in pieces[::5]]
    whole = " ".join("".join(texts).split())
    if len(texts) == 1:
        return TranscriptSegment(start, end, whole)
    times = [start, *(_clock(pieces[i : i + 4]) for i in range(1, len(pieces), 5)), end]
    words = tuple(
        TranscriptWord(piece.strip(), times[i], max(times[i], times[i + 1]))
        for i, piece in enumerate(texts)
        if piece.strip()
    )
    return TranscriptSegment(start, end, whole, words)


def _plain(text: str, vtt_cue: bool) -> str:
    if vtt_cue:
        return html.unescape(re.sub(r"</?[a-z][^<>]*>", "", text))
    return re.sub(r"</?(b|i|s|u|font)( [^<>]*)?>", "", text)


def _clock(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = parts
    small = float(f"0.{fraction}")
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + int(seconds or 0) + small

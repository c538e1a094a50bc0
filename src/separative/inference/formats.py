"""Files of turns for other programs: RTTM, CSV, subtitles, Audacity, Praat and ELAN."""

from __future__ import annotations

import csv
import io
import mimetypes
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from xml.sax.saxutils import quoteattr

from separative.errors import SeparativeError, choose
from separative.files import replace_file
from separative.rttm import Turn, write_rttm

EAF_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"


@dataclass(frozen=True)
class TurnTable:
    """What the files of a recording hold.

    Attributes:
        recording: name of the recording; RTTM lines begin with it.
        seconds: length of the recording.
        turns: turns of all speakers; those of different speakers may overlap.
        exclusive: turns with one speaker at a time, for subtitles.
        source: the audio file, to which ELAN files refer.
        channels: number of the channel of each speaker, from 1; by default all are in channel 1.

    Example:
        >>> TurnTable("meeting", 3.0, (Turn("bob", 1.0, 2.0), Turn("ann", 0.0, 1.5))).speakers
        ('ann', 'bob')
    """

    recording: str
    seconds: float
    turns: tuple[Turn, ...]
    exclusive: tuple[Turn, ...] = ()
    source: Path | None = None
    channels: Mapping[str, int] = field(default_factory=dict)

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names of the speakers, sorted."""
        return tuple(sorted({turn.speaker for turn in self.turns}))


def parse_formats(names: str) -> tuple[str, ...]:
    """Return the formats of a comma-separated list, each once; json, which is always written, is left out.

    Raises:
        SeparativeError: a format is unknown, or there is none.

    Example:
        >>> parse_formats("rttm, srt,rttm,json")
        ('rttm', 'srt')
        >>> parse_formats("str")
        Traceback (most recent call last):
        separative.errors.SeparativeError: unknown format 'str' (did you mean 'srt'?); valid: ...
    """
    wanted = [name.strip().lower() for name in names.split(",") if name.strip()]
    if not wanted:
        raise SeparativeError(f"no format named; valid: {', '.join(sorted([*FORMATS, 'json']))}")
    chosen = dict.fromkeys(choose(name, [*FORMATS, "json"], "format") for name in wanted)
    return tuple(name for name in chosen if name != "json")


def write_turns(table: TurnTable, folder: str | Path, stem: str, formats: Iterable[str]) -> list[Path]:
    """Write the turns of a recording in several formats, atomically; returns the paths.

    Args:
        formats: names of FORMATS.

    Raises:
        SeparativeError: a format is unknown.

    Example:
        >>> table = TurnTable("meeting", 3.0, (Turn("ann", 0.5, 2.0),), (Turn("ann", 0.5, 2.0),))
        >>> [path.name for path in write_turns(table, "results", "meeting", ["audacity", "srt"])]
        ['meeting-labels.txt', 'meeting.srt']
        >>> print(Path("results/meeting.srt").read_text())
        1
        00:00:00,500 --> 00:00:02,000
        ann
        <BLANKLINE>
    """
    paths = []
    for name in formats:
        suffix, write = FORMATS[choose(name, FORMATS, "format")]
        path = Path(folder) / f"{stem}{suffix}"
        write(path, table)
        paths.append(path)
    return paths


def clock(seconds: float, point: str = ".") -> str:
    """Return a time as hours, minutes, seconds and milliseconds; ``point`` precedes the milliseconds.

    Example:
        >>> clock(3661.5), clock(0.0004, ",")
        ('01:01:01.500', '00:00:00,000')
    """
    whole = round(1000 * max(0.0, seconds))
    hours, rest = divmod(whole, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def one_line(text: str) -> str:
    r"""Return text as one line without control characters, which every format can hold.

    Example:
        >>> one_line("ann\t&\nbob")
        'ann & bob'
    """
    # A file name need not be UTF-8; the formats are.
    text = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def srt_text(text: str) -> str:
    """Return text for a SubRip cue: "-->" would begin a new cue there.

    Example:
        >>> srt_text("ann --> bob")
        'ann → bob'
    """
    return one_line(re.sub(r"-+>", "→", text))


def vtt_text(text: str) -> str:
    """Return text for a WebVTT cue, with its special characters escaped.

    Example:
        >>> vtt_text("R&D <ann>")
        'R&amp;D &lt;ann&gt;'
    """
    return escape(one_line(text), quote=False)


def srt(cues: Iterable[tuple[float, float, str]]) -> str:
    r"""Return a SubRip file with the cues (start, end, text).

    Example:
        >>> srt([(0.0, 1.0, "ann")])
        '1\n00:00:00,000 --> 00:00:01,000\nann\n'
    """
    blocks = [
        f"{number}\n{clock(start, ',')} --> {clock(end, ',')}\n{srt_text(text)}\n"
        for number, (start, end, text) in enumerate(cues, 1)
    ]
    return "\n".join(blocks)


def vtt(cues: Iterable[tuple[float, float, str, str]]) -> str:
    r"""Return a WebVTT file with the cues (start, end, speaker, text); an empty speaker is unknown.

    Example:
        >>> vtt([(0.0, 1.0, "ann", "hello")])
        'WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n<v ann>hello\n'
    """
    blocks = [
        f"{clock(start)} --> {clock(end)}\n{f'<v {vtt_text(who)}>' if who else ''}{vtt_text(text)}\n"
        for start, end, who, text in cues
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def _write_rttm(path: Path, table: TurnTable) -> None:
    write_rttm(path, table.recording, table.turns, table.channels)


def _write_csv(path: Path, table: TurnTable) -> None:
    """One row per turn; ``exclusive`` tells the two kinds of turns apart."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("recording", "channel", "speaker", "start", "end", "exclusive", "confidence"))
    for exclusive, turns in ((0, table.turns), (1, table.exclusive)):
        for turn in turns:
            name = one_line(turn.speaker)
            channel = table.channels.get(turn.speaker, 1)
            confidence = "" if turn.confidence is None else f"{turn.confidence:.3f}"
            times = f"{turn.start:.3f}", f"{turn.end:.3f}"
            rows.writerow((one_line(table.recording), channel, name, *times, exclusive, confidence))
    replace_file(path, text.getvalue().encode())


def _write_srt(path: Path, table: TurnTable) -> None:
    replace_file(path, srt((turn.start, turn.end, turn.speaker) for turn in table.exclusive).encode())


def _write_vtt(path: Path, table: TurnTable) -> None:
    cues = ((turn.start, turn.end, turn.speaker, turn.speaker) for turn in table.exclusive)
    replace_file(path, vtt(cues).encode())


def _write_audacity(path: Path, table: TurnTable) -> None:
    lines = [f"{turn.start:.6f}\t{turn.end:.6f}\t{one_line(turn.speaker)}\n" for turn in table.turns]
    replace_file(path, "".join(lines).encode())


def _write_textgrid(path: Path, table: TurnTable) -> None:
    """One interval tier per speaker. Praat needs intervals without gaps, and at least one tier."""
    end = max([table.seconds, *(turn.end for turn in table.turns)])
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["xmin = 0", f"xmax = {end:.6f}", "tiers? <exists>"]
    names = table.speakers or ("no speech",)
    lines += [f"size = {len(names)}", "item []:"]
    for number, name in enumerate(names, 1):
        quoted, intervals, last = one_line(name).replace('"', '""'), [], 0.0
        for turn in table.turns:
            if turn.speaker == name and f"{turn.start:.6f}" != f"{turn.end:.6f}":
                if turn.start > last:
                    intervals.append((last, turn.start, ""))
                intervals.append((turn.start, turn.end, quoted))
                last = turn.end
        if end > last:
            intervals.append((last, end, ""))
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{quoted}"']
        lines += [
            "        xmin = 0",
            f"        xmax = {end:.6f}",
            f"        intervals: size = {len(intervals)}",
        ]
        for place, (start, stop, text) in enumerate(intervals, 1):
            lines += [f"        intervals [{place}]:", f"            xmin = {start:.6f}"]
            lines += [f"            xmax = {stop:.6f}", f'            text = "{text}"']
    replace_file(path, ("\n".join(lines) + "\n").encode())


def _write_eaf(path: Path, table: TurnTable) -> None:
    """One tier per speaker, times in milliseconds."""
    slots: list[str] = []
    tiers: list[str] = []
    for name in table.speakers:
        annotations = []
        for turn in (turn for turn in table.turns if turn.speaker == name):
            start, end = round(1000 * max(0.0, turn.start)), round(1000 * turn.end)
            if end <= start:
                continue
            first = len(slots) + 1
            slots += [
                f'    <TIME_SLOT TIME_SLOT_ID="ts{first}" TIME_VALUE="{start}"/>',
                f'    <TIME_SLOT TIME_SLOT_ID="ts{first + 1}" TIME_VALUE="{end}"/>',
            ]
            annotations += [
                "    <ANNOTATION>",
                f'      <ALIGNABLE_ANNOTATION ANNOTATION_ID="a{first // 2 + 1}" TIME_SLOT_REF1="ts{first}"'
                f' TIME_SLOT_REF2="ts{first + 1}">',
                f"        <ANNOTATION_VALUE>{escape(one_line(name), quote=False)}</ANNOTATION_VALUE>",
                "      </ALIGNABLE_ANNOTATION>",
                "    </ANNOTATION>",
            ]
        tier = quoteattr(one_line(name))
        tiers += [f'  <TIER LINGUISTIC_TYPE_REF="turns" TIER_ID={tier} PARTICIPANT={tier}>', *annotations]
        tiers += ["  </TIER>"]
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<ANNOTATION_DOCUMENT AUTHOR="separative" DATE="{datetime.now(UTC).isoformat(timespec="seconds")}"'
        ' FORMAT="3.0" VERSION="3.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        f' xsi:noNamespaceSchemaLocation="{EAF_SCHEMA}">',
        '  <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">',
        *_media(path, table.source),
        "  </HEADER>",
        "  <TIME_ORDER>",
        *slots,
        "  </TIME_ORDER>",
        *tiers,
        '  <LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="turns" TIME_ALIGNABLE="true"/>',
        "</ANNOTATION_DOCUMENT>",
    ]
    replace_file(path, ("\n".join(lines) + "\n").encode())


def _media(path: Path, source: Path | None) -> list[str]:
    """The line that connects an ELAN file with its recording."""
    if source is None:
        return []
    kind = mimetypes.guess_type(source.name)[0] or "audio/x-wav"
    url = quoteattr(source.resolve().as_uri())
    try:
        relative = Path(os.path.relpath(source, path.parent)).as_posix()
    except ValueError:
        # On Windows, there is no relative path to another drive.
        relative = source.name
    relative = relative.encode("utf-8", "replace").decode()
    return [
        f'    <MEDIA_DESCRIPTOR MEDIA_URL={url} MIME_TYPE="{kind}" RELATIVE_MEDIA_URL={quoteattr(relative)}/>'
    ]


FORMATS: dict[str, tuple[str, Callable[[Path, TurnTable], None]]] = {
    "rttm": (".rttm", _write_rttm),
    "csv": (".csv", _write_csv),
    "srt": (".srt", _write_srt),
    "vtt": (".vtt", _write_vtt),
    "audacity": ("-labels.txt", _write_audacity),
    "textgrid": (".TextGrid", _write_textgrid),
    "eaf": (".eaf", _write_eaf),
}
"""Name of each format, the end of its file names, and the function that writes it."""

"""The timeline of a diarized recording: an interactive HTML page and a picture, with one lane per speaker."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from separative import audio
from separative.drawing import COLOURS, figure_text, render_page
from separative.files import atomic_path, replace_file
from separative.types import Wave

# Longer recordings are linked, not embedded: embedded they would make a page of tens of megabytes.
EMBED_SECONDS = 900.0
MP3_RATE = 16000
# Points of a waveform outline.
PEAKS = 1600
# The common palette without black, which a dark page would hide, and two more colours.
LANE_COLOURS = (*(colour for colour in COLOURS if colour != "#000000"), "#8a8a00", "#777777")


def write_timeline(
    path: str | Path, record: dict[str, Any], mixture: str | Path, streams: Sequence[str | Path]
) -> Path:
    """Write an HTML page about a diarized recording; the file is replaced atomically.

    Each lane shows the turns of one speaker over the outline of their waveform; overlapped speech is shaded.
    Any lane can be played from any position, with the mouse or with keys (space, arrows). Recordings of up to
    ``EMBED_SECONDS`` are embedded in the page. Longer ones are linked, so keep the page in their folder.

    Args:
        path: the page to write.
        record: as returned by :func:`separative.inference.describe_diarization`.
        mixture: the audio file of the recording.
        streams: one audio file per speaker, in the order of ``record["speakers"]``.

    Returns:
        ``path``.

    Raises:
        AudioError: an audio file cannot be read.

    >>> speaker = {"name": "ann", "speech_seconds": 1.0, "turns": [[0.0, 1.0]]}
    >>> record = {"recording": "mixture.wav", "seconds": 2.0, "speakers": [speaker]}
    >>> write_timeline("mixture.html", record, "mixture.wav", ["ann.wav"]).read_text().count("<svg")
    2
    """
    path = Path(path)
    seconds, speakers = float(record["seconds"]), record["speakers"]
    overlaps, speech = _spans(speakers, 2), _spans(speakers, 1)
    share = _total(overlaps) / max(_total(speech), 1e-9)
    lanes = [_lane("mixture", f"{len(speakers)} speakers", [], "var(--soft)", mixture, path, seconds)]
    for number, (speaker, stream) in enumerate(zip(speakers, streams, strict=True)):
        colour = LANE_COLOURS[number % len(LANE_COLOURS)]
        lanes.append(
            _lane(speaker["name"], _description(speaker), speaker["turns"], colour, stream, path, seconds)
        )
    page = render_page(
        "timeline.html",
        heading=Path(record["recording"]).name,
        summary=f"{len(speakers)} speakers · {seconds / 60:.1f} minutes · {share:.0%} of the speech overlaps",
        seconds=seconds,
        overlaps=overlaps,
        lanes=lanes,
    )
    replace_file(path, page)
    return path


def write_picture(path: str | Path, record: dict[str, Any]) -> Path:
    """Draw the turns of all speakers, with overlapped speech shaded, as PNG, SVG or PDF (by suffix).

    Args:
        path: the picture to write.
        record: as for :func:`write_timeline`.

    Returns:
        ``path``.

    >>> speaker = {"name": "ann", "turns": [[0.0, 1.0]]}
    >>> write_picture("meeting.svg", {"seconds": 2.0, "speakers": [speaker]}).name
    'meeting.svg'
    """
    from matplotlib.figure import Figure

    path, speakers, seconds = Path(path), record["speakers"], float(record["seconds"])
    unit, label = (60.0, "minutes") if seconds > 120 else (1.0, "seconds")
    figure = Figure(figsize=(9.0, 1.0 + 0.38 * len(speakers)), layout="constrained")
    axes = figure.add_subplot()
    for number, speaker in enumerate(speakers):
        spans = [(a / unit, (b - a) / unit) for a, b in speaker["turns"]]
        axes.broken_barh(spans, (number - 0.35, 0.7), color=LANE_COLOURS[number % len(LANE_COLOURS)])
    for a, b in _spans(speakers, 2):
        axes.axvspan(a / unit, b / unit, color="0.5", alpha=0.25, linewidth=0)
    axes.set_yticks(range(len(speakers)), [figure_text(str(speaker["name"])) for speaker in speakers])
    axes.set(xlim=(0, seconds / unit), ylim=(max(len(speakers), 1) - 0.5, -0.5), xlabel=label)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format=path.suffix[1:].lower())
    return path


def _lane(
    name: str,
    description: str,
    turns: Sequence[Sequence[float]],
    colour: str,
    recording: str | Path,
    page: Path,
    seconds: float,
) -> dict[str, Any]:
    """One lane as the template shows it."""
    return {
        "name": name,
        "description": description,
        "turns": turns,
        "colour": colour,
        "outline": _outline(recording, seconds),
        "audio_url": _audio_url(recording, page.parent, seconds),
    }


def _description(speaker: dict[str, Any]) -> str:
    """Amount of speech, and the best match in a gallery if there is one."""
    text = f"{speaker['speech_seconds']:.1f} s in {len(speaker['turns'])} turns"
    if speaker.get("matches"):
        best = speaker["matches"][0]
        probability = "" if best["probability"] is None else f", {best['probability']:.0%}"
        text += f" · best match: {best['name']}{probability}"
    return text


def _spans(speakers: Sequence[dict[str, Any]], least: int) -> list[tuple[float, float]]:
    """Spans (begin, end) in seconds in which at least ``least`` speakers have a turn."""
    steps = sorted(
        (time, change)
        for speaker in speakers
        for begin, end in speaker["turns"]
        for time, change in ((begin, 1), (end, -1))
    )
    spans, count, begun = [], 0, 0.0
    for time, change in steps:
        if count < least <= count + change:
            begun = time
        elif count + change < least <= count and time > begun:
            spans.append((begun, time))
        count += change
    return spans


def _total(spans: Sequence[tuple[float, float]]) -> float:
    return sum(end - begin for begin, end in spans)


def _outline(recording: str | Path, seconds: float) -> str:
    """Points of the polygon around the waveform: its peak level in each of ``PEAKS`` parts, up and down."""
    rate = audio.info(recording).rate
    size = max(1, round(seconds * rate / PEAKS))
    peaks: list[Wave] = []
    for block_N in audio.stream(recording, seconds=size * 64 / rate):
        padded = np.pad(block_N, (0, -len(block_N) % size)).reshape(-1, size)
        peaks.append(np.abs(padded).max(1))
    peak_P = np.concatenate(peaks)
    peak_P = 46 * peak_P / max(float(peak_P.max()), 1e-9)
    place_P = (np.arange(len(peak_P)) + 0.5) * size / rate
    up = " ".join(f"{x:.2f},{50 - y:.1f}" for x, y in zip(place_P, peak_P, strict=True))
    down = " ".join(f"{x:.2f},{50 + y:.1f}" for x, y in zip(place_P[::-1], peak_P[::-1], strict=True))
    return f"{up} {down}"


def _audio_url(recording: str | Path, folder: Path, seconds: float) -> str:
    """URL of a recording for the player: embedded as MP3, or a link, relative if it is in ``folder``."""
    path = Path(recording).resolve()
    if seconds > EMBED_SECONDS:
        return quote(path.name) if path.parent == folder.resolve() else path.as_uri()
    wave_N, _ = audio.read(recording, MP3_RATE)
    with tempfile.TemporaryDirectory() as temporary:
        small = Path(temporary) / "recording.mp3"
        audio.write(small, wave_N / max(1.0, float(np.abs(wave_N).max())), MP3_RATE)
        return f"data:audio/mpeg;base64,{base64.b64encode(small.read_bytes()).decode()}"

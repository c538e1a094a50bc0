"""The timeline of a diarized recording: an interactive HTML page and a picture, with one lane per speaker."""

from __future__ import annotations

import base64
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from separative import audio
from separative.drawing import COLOURS, figure_text, render_page
from separative.errors import AudioError
from separative.files import atomic_path, replace_file
from separative.inference.recording import Audio, BlockReader
from separative.types import Wave

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Longer recordings are linked, not embedded: embedded they would make a page of tens of megabytes.
EMBED_SECONDS = 900.0
MP3_RATE = 16000
# Characters of a name next to a lane of a picture.
LONGEST_NAME = 40
# Peaks of a waveform per second, and the least and largest number of them.
PEAKS_PER_SECOND, MIN_PEAKS, MAX_PEAKS = 20, 1600, 8000
# The player, which the page of the server has too: modules in the order in which they need each other.
PLAYER = Path(__file__).parents[1] / "templates" / "player"
SCRIPTS = ("dom", "player", "waveform", "turns", "view")
# Colours of speakers in the style of the player.
COLOUR_COUNT = 8

# Peaks of a waveform, and the URL of its audio.
Sound = tuple[list[float], str]

# The common palette without black, which a dark page would hide, and two more colours.
LANE_COLOURS = (*(colour for colour in COLOURS if colour != "#000000"), "#8a8a00", "#777777")


def write_timeline(
    path: str | Path, record: dict[str, Any], mixture: str | Path, streams: Sequence[str | Path]
) -> Path:
    """Write an HTML page about a diarized recording; the file is replaced atomically.

    Each lane shows the turns of one speaker over the outline of their waveform; overlapped speech is shaded.
    Speakers can be soloed and muted, and a list of turns follows the playback. Recordings of up to
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
    >>> write_timeline("mixture.html", record, "mixture.wav", ["ann.wav"]).read_text().count("data:audio")
    2
    """
    path = Path(path)
    sounds = (mixture, *streams)
    peaks = [_file_peaks(sound, float(record["seconds"])) for sound in sounds]
    urls = [_audio_url(sound, path.parent, float(record["seconds"])) for sound in sounds]
    replace_file(path, _page(record, list(zip(peaks, urls, strict=True)), with_mixture=True))
    return path


def timeline_page(record: dict[str, Any], mixture: Audio | None, streams: Sequence[Audio | None]) -> bytes:
    """Make an HTML page about a recording, for a notebook; audio of up to ``EMBED_SECONDS`` is embedded.

    Args:
        record: as for :func:`write_timeline`.
        mixture: the recording, which has a lane of its own; None for no such lane. If it cannot be read any
            more, the lane has no player.
        streams: the waveform of each speaker, or None for a lane without a player.

    >>> speaker = {"name": "ann", "speech_seconds": 1.0, "turns": [[0.0, 1.0]]}
    >>> record = {"recording": "mixture.wav", "seconds": 6.4, "speakers": [speaker]}
    >>> page = timeline_page(record, "mixture.wav", [None])
    >>> page.count(b"data:audio")
    1
    """
    seconds = float(record["seconds"])
    lanes = [_sound(sound, seconds) for sound in streams]
    if mixture is not None:
        lanes.insert(0, _sound(mixture, seconds))
    return _page(record, lanes, with_mixture=mixture is not None)


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

    path, speakers = Path(path), record["speakers"]
    figure = Figure(figsize=(9.0, 1.0 + 0.38 * len(speakers)), layout="constrained")
    turns = {str(speaker["name"]): speaker["turns"] for speaker in speakers}
    draw_turns(figure.add_subplot(), turns, float(record["seconds"]))
    with atomic_path(path) as temporary, warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(temporary, dpi=150, format=path.suffix[1:].lower())
    return path


def draw_turns(axes: Axes, turns: Mapping[str, Sequence[Sequence[float]]], seconds: float) -> Axes:
    """Draw a lane of turns per speaker on axes of Matplotlib, with overlapped speech shaded.

    Args:
        axes: the axes.
        turns: spans (begin, end) in seconds, by name of the speaker.
        seconds: length of the recording. From two minutes on, the axis is in minutes.

    Returns:
        ``axes``.

    >>> from matplotlib.figure import Figure
    >>> draw_turns(Figure().add_subplot(), {"ann": [(0.0, 1.0)]}, 2.0).get_xlabel()
    'seconds'
    """
    unit, label = (60.0, "minutes") if seconds > 120 else (1.0, "seconds")
    for number, spans in enumerate(turns.values()):
        bars = [(a / unit, (b - a) / unit) for a, b in spans]
        axes.broken_barh(bars, (number - 0.35, 0.7), color=LANE_COLOURS[number % len(LANE_COLOURS)])
    for a, b in _spans(turns.values(), 2):
        axes.axvspan(a / unit, b / unit, color="0.5", alpha=0.25, linewidth=0)
    short = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in turns]
    axes.set_yticks(range(len(turns)), [figure_text(name) for name in short])
    axes.set(xlim=(0, seconds / unit), ylim=(max(len(turns), 1) - 0.5, -0.5), xlabel=label)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    return axes


def _page(record: dict[str, Any], sounds: Sequence[Sound], *, with_mixture: bool) -> bytes:
    """The page of a record; ``sounds`` has the peaks and the URL of the audio of each lane, or empty ones."""
    seconds, speakers = float(record["seconds"]), record["speakers"]
    turns = [speaker["turns"] for speaker in speakers]
    share = _total(_spans(turns, 2)) / max(_total(_spans(turns, 1)), 1e-9)
    count = f"{len(speakers)} speakers" if len(speakers) != 1 else "1 speaker"
    (peaks, audio_url), streams = sounds[0] if with_mixture else ([], ""), sounds[with_mixture:]
    lanes = [
        {
            "id": number,
            "name": speaker["name"],
            "title": speaker["name"],
            "facts": _description(speaker),
            "colour": f"var(--speaker{1 + (number - 1) % COLOUR_COUNT})",
            "turns": [list(turn) for turn in speaker["turns"]],
            "confidence": speaker.get("confidence"),
            "peaks": own_peaks,
            "audio": own_audio,
        }
        for number, (speaker, (own_peaks, own_audio)) in enumerate(zip(speakers, streams, strict=True), 1)
    ]
    return render_page(
        "timeline.html",
        heading=Path(record["recording"]).name,
        summary=f"{count} · {seconds / 60:.1f} minutes · {share:.0%} of the speech overlaps",
        scripts=[_script(name) for name in SCRIPTS],
        data={
            "seconds": seconds,
            "lane": with_mixture,
            "facts": count,
            "audio": audio_url,
            "peaks": peaks,
            "speakers": lanes,
        },
    )


def _script(name: str) -> str:
    """A module of the player without its imports and exports, because a page is one file."""
    lines = (PLAYER / f"{name}.js").read_text(encoding="utf-8").splitlines()
    return "\n".join(line.removeprefix("export ") for line in lines if not line.startswith("import "))


def _description(speaker: dict[str, Any]) -> str:
    """Amount of speech, and the best match in a gallery if there is one."""
    count = len(speaker["turns"])
    text = f"{speaker['speech_seconds']:.1f} s in {count} turn{'' if count == 1 else 's'}"
    if speaker.get("matches"):
        best = speaker["matches"][0]
        probability = "" if best["probability"] is None else f", {best['probability']:.0%}"
        text += f" · best match: {best['name']}{probability}"
    return text


def _spans(turns: Iterable[Sequence[Sequence[float]]], least: int) -> list[tuple[float, float]]:
    """Spans (begin, end) in seconds in which at least ``least`` speakers have a turn."""
    steps = sorted(
        (time, change) for own in turns for begin, end in own for time, change in ((begin, 1), (end, -1))
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


def _sound(source: Audio | None, seconds: float) -> Sound:
    """Peaks and URL of a recording for a notebook: empty ones if it is None, long or cannot be read."""
    if source is None or seconds > EMBED_SECONDS:
        return [], ""
    try:
        wave_N = np.concatenate(list(BlockReader(source, MP3_RATE, "mean")))
    except AudioError:
        return [], ""
    size = _interval(seconds, MP3_RATE)
    return _rounded(wave_peaks(wave_N, size)), _embedded(wave_N)


def _file_peaks(recording: str | Path, seconds: float) -> list[float]:
    """Peak level of an audio file in intervals of equal length."""
    rate = audio.info(recording).rate
    size = _interval(seconds, rate)
    blocks = audio.stream(recording, seconds=size * 64 / rate)
    return _rounded(np.concatenate([wave_peaks(block_N, size) for block_N in blocks]))


def _interval(seconds: float, rate: int) -> int:
    """Samples of an interval, so that there are enough peaks to zoom in, but not too many for a page."""
    count = min(max(MIN_PEAKS, PEAKS_PER_SECOND * seconds), MAX_PEAKS)
    return max(1, round(seconds * rate / count))


def wave_peaks(waveform: Wave, size: int) -> Wave:
    """Peak magnitude in each part of ``size`` samples of a waveform [N].

    >>> wave_peaks(np.array([0.1, -0.5, 0.2]), 2).tolist()
    [0.5, 0.2]
    """
    peak_P: Wave = np.abs(np.pad(waveform, (0, -len(waveform) % size))).reshape(-1, size).max(1)
    return peak_P


def _rounded(peak_P: Wave) -> list[float]:
    return [round(float(peak), 3) for peak in peak_P]


def _audio_url(recording: str | Path, folder: Path, seconds: float) -> str:
    """URL of a recording for the player: embedded as MP3, or a link, relative if it is in ``folder``."""
    path = Path(recording).resolve()
    if seconds > EMBED_SECONDS:
        return quote(path.name) if path.parent == folder.resolve() else path.as_uri()
    return _embedded(audio.read(recording, MP3_RATE)[0])


def _embedded(wave_N: Wave) -> str:
    """URL that holds a waveform at MP3_RATE as MP3."""
    with tempfile.TemporaryDirectory() as temporary:
        small = Path(temporary) / "recording.mp3"
        audio.write(small, wave_N / max(1.0, float(np.abs(wave_N).max())), MP3_RATE)
        return f"data:audio/mpeg;base64,{base64.b64encode(small.read_bytes()).decode()}"

"""Who spoke when, to see and to hear: a page with a lane for each speaker."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from separative import audio
from separative.files import atomic_path, replace_file
from separative.report.page import whole_page

# Longer recordings are linked, not embedded: the page would have tens of megabytes.
EMBED_SECONDS = 900.0
MP3_RATE = 16000
PEAKS = 1600
# Okabe and Ito's palette, for light and dark paper alike.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8a8a00", "#777777")

STYLE = """<style>
body { max-width: 80rem }
.bar { display: flex; gap: .5rem; align-items: center; flex-wrap: wrap; margin: .8rem 0 }
.bar button, .name button { font: inherit; font-size: .85rem; color: var(--ink); background: var(--lift);
  border: 1px solid var(--line); border-radius: .4rem; padding: .25rem .7rem; cursor: pointer }
.bar output { font-variant-numeric: tabular-nums; color: var(--soft); font-size: .9rem }
.lanes { display: grid; grid-template-columns: minmax(7rem, 11rem) 1fr; border: 1px solid var(--line);
  border-radius: .5rem; overflow: hidden }
.name { padding: .35rem .6rem; border-bottom: 1px solid var(--line); font-size: .85rem; min-height: 4.2rem }
.name button[aria-pressed=true] { border-color: currentColor; font-weight: bold }
.name small { color: var(--soft); display: block; margin-top: .15rem }
.scroll { overflow-x: auto; position: relative }
.tracks { position: relative; min-width: 100%; cursor: crosshair }
.tracks svg { display: block; width: 100%; height: 4.2rem; border-bottom: 1px solid var(--line) }
.tracks .ticks { height: 1.6rem; position: relative; color: var(--soft); font-size: .75rem }
.ticks span { position: absolute; transform: translateX(-50%) }
.head { position: absolute; top: 0; bottom: 0; width: 2px; background: var(--ink); left: 0 }
.both { fill: var(--ink); opacity: .12 }
</style>"""

SCRIPT = """<script>
const data = JSON.parse(document.getElementById('data').textContent);
const sounds = [...document.querySelectorAll('audio')], pick = [...document.querySelectorAll('.name button')];
const tracks = document.querySelector('.tracks'), head = document.querySelector('.head');
const scroll = document.querySelector('.scroll'), out = document.querySelector('output');
const play = document.getElementById('play'), ticks = document.querySelector('.ticks');
let at = 0, lane = 0, zoom = 1;
const clock = s => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, '0')}`;
function show() {
  head.style.left = `${100 * at / data.seconds}%`;
  out.textContent = `${clock(at)} / ${clock(data.seconds)}`;
}
function choose(number) {
  const playing = !sounds[lane].paused;
  sounds[lane].pause();
  lane = number;
  pick.forEach((b, i) => b.setAttribute('aria-pressed', i === lane));
  sounds[lane].currentTime = at;
  if (playing) sounds[lane].play();
}
function seek(seconds) {
  at = Math.min(Math.max(0, seconds), data.seconds);
  sounds[lane].currentTime = at;
  show();
}
function toggle() {
  if (sounds[lane].paused) { sounds[lane].currentTime = at; sounds[lane].play(); } else sounds[lane].pause();
}
function magnify(factor) {
  zoom = Math.min(Math.max(1, zoom * factor), Math.max(1, data.seconds / 5));
  tracks.style.width = `${100 * zoom}%`;
  const wanted = data.seconds / (8 * zoom);
  const step = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600].find(s => s >= wanted) || 7200;
  ticks.replaceChildren();
  for (let s = step; s < data.seconds; s += step) {
    const mark = document.createElement('span');
    mark.textContent = clock(s);
    mark.style.left = `${100 * s / data.seconds}%`;
    ticks.append(mark);
  }
  scroll.scrollLeft = at / data.seconds * tracks.scrollWidth - scroll.clientWidth / 2;
}
sounds.forEach((sound, i) => {
  sound.addEventListener('timeupdate', () => {
    if (i === lane && !sound.paused) { at = sound.currentTime; show(); }
  });
  sound.addEventListener('play', () => play.textContent = 'Pause');
  sound.addEventListener('pause', () => play.textContent = 'Play');
});
pick.forEach((button, i) => button.addEventListener('click', () => choose(i)));
tracks.addEventListener('click', e => {
  const box = tracks.getBoundingClientRect();
  seek((e.clientX - box.left) / box.width * data.seconds);
});
play.addEventListener('click', toggle);
document.getElementById('closer').addEventListener('click', () => magnify(2));
document.getElementById('wider').addEventListener('click', () => magnify(0.5));
document.addEventListener('keydown', e => {
  if (e.target.tagName === 'BUTTON' && e.key === ' ') return;
  const jump = { ArrowLeft: -5, ArrowRight: 5 }[e.key];
  if (e.key === ' ') { e.preventDefault(); toggle(); } else if (jump) { e.preventDefault(); seek(at + jump); }
});
magnify(1); show();
</script>"""


def write_timeline(
    path: str | Path, record: dict[str, Any], mixture: str | Path, voices: Sequence[str | Path]
) -> Path:
    """Write one HTML page about a recording that was diarized, whole or not at all.

    Lanes show each speaker's turns over their voice, and shade where two or more speak. Any lane can be
    listened to at any place, by mouse or keys (space, arrows). Sounds of recordings up to EMBED_SECONDS are
    within the page; those of longer ones are linked, so the page belongs beside them.

    Args:
        record: as :func:`separative.inference.describe_diarization` makes it.
        mixture: the recording.
        voices: the speakers' sound files, in the order of the record.

    Raises:
        AudioError: a sound cannot be read.
    """
    path = Path(path)
    seconds, speakers = float(record["seconds"]), record["speakers"]
    together, anyone = _spans(speakers, 2), _spans(speakers, 1)
    shade = "".join(
        f'<rect class="both" x="{a:.2f}" y="0" width="{b - a:.2f}" height="100"/>' for a, b in together
    )
    names, tracks, sounds = [], [], []
    lanes: list[tuple[str, str, list[list[float]], str, str | Path]] = [
        ("mixture", f"{len(speakers)} speakers", [], "var(--soft)", mixture)
    ]
    for number, (speaker, voice) in enumerate(zip(speakers, voices, strict=True)):
        words = f"{speaker['speech_seconds']:.1f} s in {len(speaker['turns'])} turns"
        if speaker.get("matches"):
            best = speaker["matches"][0]
            worth = "" if best["probability"] is None else f", {best['probability']:.0%}"
            words += f" · most like {best['name']}{worth}"
        lanes.append((speaker["name"], words, speaker["turns"], COLOURS[number % len(COLOURS)], voice))
    for number, (name, words, turns, colour, sound) in enumerate(lanes):
        pressed = "true" if number == 0 else "false"
        names.append(
            f'<div class="name"><button style="color:{colour}" aria-pressed="{pressed}">'
            f"{escape(name)}</button><small>{escape(words)}</small></div>"
        )
        said = "".join(
            f'<rect x="{a:.2f}" y="4" width="{b - a:.2f}" height="92" rx="0" fill="{colour}" opacity=".22"/>'
            for a, b in turns
        )
        tracks.append(
            f'<svg viewBox="0 0 {seconds:g} 100" preserveAspectRatio="none" role="img"'
            f' aria-label="{escape(name)}, {escape(words)}">'
            f"{said}{_wave(sound, seconds, colour)}{shade}</svg>"
        )
        sounds.append(f'<audio preload="metadata" src="{_source(sound, path.parent, seconds)}"></audio>')
    share = sum(b - a for a, b in together) / max(sum(b - a for a, b in anyone), 1e-9)
    body = (
        f"{STYLE}<p>{len(speakers)} speakers · {seconds / 60:.1f} minutes"
        f" · {share:.0%} of the speech overlaps</p>"
        '<div class="bar"><button id="play">Play</button><button id="wider" aria-label="zoom out">−</button>'
        '<button id="closer" aria-label="zoom in">+</button><output></output></div>'
        f'<div class="lanes"><div>{"".join(names)}</div><div class="scroll" tabindex="0"><div class="tracks">'
        f'{"".join(tracks)}<div class="ticks"></div><div class="head"></div></div></div></div>'
        f'<script type="application/json" id="data">{json.dumps({"seconds": seconds})}</script>'
        f"{''.join(sounds)}{SCRIPT}"
    )
    replace_file(path, whole_page(Path(record["recording"]).name, body).encode())
    return path


def write_picture(path: str | Path, record: dict[str, Any]) -> Path:
    """The same lanes without sound, as PNG, SVG or PDF (by suffix), for print: turns, and overlap shaded."""
    from matplotlib.figure import Figure

    path, speakers, seconds = Path(path), record["speakers"], float(record["seconds"])
    unit, word = (60.0, "minutes") if seconds > 120 else (1.0, "seconds")
    figure = Figure(figsize=(9.0, 1.0 + 0.38 * len(speakers)), layout="constrained")
    axes = figure.add_subplot()
    for number, speaker in enumerate(speakers):
        spans = [(a / unit, (b - a) / unit) for a, b in speaker["turns"]]
        axes.broken_barh(spans, (number - 0.35, 0.7), color=COLOURS[number % len(COLOURS)])
    for a, b in _spans(speakers, 2):
        axes.axvspan(a / unit, b / unit, color="0.5", alpha=0.25, linewidth=0)
    axes.set_yticks(range(len(speakers)), [str(speaker["name"]) for speaker in speakers])
    axes.set(xlim=(0, seconds / unit), ylim=(max(len(speakers), 1) - 0.5, -0.5), xlabel=word)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    with atomic_path(path) as beside:
        figure.savefig(beside, dpi=150, format=path.suffix[1:].lower())
    return path


def _spans(speakers: Sequence[dict[str, Any]], least: int) -> list[tuple[float, float]]:
    """Stretches in which at least so many have the turn."""
    steps = sorted(
        (time, change)
        for speaker in speakers
        for a, b in speaker["turns"]
        for time, change in ((a, 1), (b, -1))
    )
    spans, count, begun = [], 0, 0.0
    for time, change in steps:
        if count < least <= count + change:
            begun = time
        elif count + change < least <= count and time > begun:
            spans.append((begun, time))
        count += change
    return spans


def _wave(sound: str | Path, seconds: float, colour: str) -> str:
    """The sound's outline as a path: PEAKS extremes over the whole."""
    rate = audio.info(sound).rate
    size = max(1, round(seconds * rate / PEAKS))
    peaks: list[NDArray[np.float32]] = []
    for block_N in audio.stream(sound, seconds=size * 64 / rate):
        padded = np.pad(block_N, (0, -len(block_N) % size)).reshape(-1, size)
        peaks.append(np.abs(padded).max(1))
    peak_P = np.concatenate(peaks)
    peak_P = 46 * peak_P / max(float(peak_P.max()), 1e-9)
    place_P = (np.arange(len(peak_P)) + 0.5) * size / rate
    up = " ".join(f"{x:.2f},{50 - y:.1f}" for x, y in zip(place_P, peak_P, strict=True))
    down = " ".join(f"{x:.2f},{50 + y:.1f}" for x, y in zip(place_P[::-1], peak_P[::-1], strict=True))
    return f'<polygon points="{up} {down}" fill="{colour}"/>'


def _source(sound: str | Path, folder: Path, seconds: float) -> str:
    """Where the player finds a sound: within the page as MP3, or by its place beside the page."""
    if seconds > EMBED_SECONDS:
        near = Path(sound).resolve().parent == folder.resolve()
        return quote(Path(sound).name) if near else Path(sound).resolve().as_uri()
    wave_N, _ = audio.read(sound, MP3_RATE)
    with tempfile.TemporaryDirectory() as beside:
        small = Path(beside) / "sound.mp3"
        audio.write(small, wave_N / max(1.0, float(np.abs(wave_N).max())), MP3_RATE)
        return f"data:audio/mpeg;base64,{base64.b64encode(small.read_bytes()).decode()}"

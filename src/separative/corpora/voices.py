"""Synthetic voices: a corpus of made-up speakers, the same for the same seed, for demonstrations and tests.

Each speaker is an espeak-ng voice of its own (accent, resonances, pitch, breath, rate), then a vocal tract of
its own length and a spectral tilt, applied here. From utterance to utterance, pitch, melody, rate and level
vary a little.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from separative import audio
from separative.corpora.cuts import save_corpus
from separative.corpora.layouts import load_corpus
from separative.corpora.manifest import UNKNOWN_SECONDS, Corpus, Utterance, in_threads, with_durations
from separative.corpora.sentences import sentence
from separative.errors import CorpusError, MissingExtraError
from separative.files import write_json
from separative.types import Progress, Wave

ACCENTS = (
    "en-us",
    "en",
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
    "en-us-nyc",
)
DIMENSIONS = 14
CANDIDATES = 24


@dataclass(frozen=True, slots=True)
class SyntheticSpeaker:
    """One synthetic speaker.

    Attributes:
        name: unique within a seed.
        accent: an espeak-ng language; plain ``en`` is British.
        warp: vocal tract, as a factor on all its resonances: 0.9 a large man, 1.3 a child.
        pitch: hertz, middle of the voice.
        range: 0 to 99, how lively the melody is.
        rate: words a minute.
        tilt: dB an octave, how bright.
        variant: the remaining anatomy as an espeak-ng variant file.
    """

    name: str
    accent: str
    warp: float
    pitch: float
    range: int
    rate: float
    tilt: float
    variant: str


def draw_speakers(count: int, seed: int) -> list[SyntheticSpeaker]:
    """``count`` speakers; the first ones are the same for every count.

    Each is the one of ``CANDIDATES`` random ones farthest from all before it (Mitchell's best candidate), so
    that no two are alike by chance.
    """
    rng = np.random.default_rng([seed, 0])
    chosen = np.empty((0, DIMENSIONS))
    for _ in range(count):
        candidates = rng.random((CANDIDATES, DIMENSIONS))
        if len(chosen):
            distance = np.linalg.norm(candidates[:, None] - chosen[None], axis=-1).min(axis=1)
            chosen = np.vstack([chosen, candidates[distance.argmax()]])
        else:
            chosen = candidates[:1]
    return [_speaker(f"s{seed}-{index:03d}", traits) for index, traits in enumerate(chosen)]


def _speaker(name: str, traits: npt.NDArray[np.float64]) -> SyntheticSpeaker:
    size, voice, f1, f2, f3, f4, width, breath, rough, tilt, rate, lively, accent, bright = traits
    warp = 0.88 + 0.40 * size
    # Small people have high voices, though not strictly: two thirds of the pitch follow the size.
    pitch = 80.0 * 2.0 ** (1.75 * (0.67 * size + 0.33 * voice))
    # Playing the recording faster by `warp` raises pitch and resonances both, so ask for less pitch.
    spoken = pitch / warp
    formants = [1.0, *(1.0 + 0.18 * (np.array([f1, f2, f3, f4]) - 0.5)), 1.0, 1.0, 1.0, 1.0]
    heights = [100, 100, 100, *[round(70 + 60 * bright)] * 6]
    lines = [
        "language variant",
        f"name {name}",
        f"pitch {round(0.82 * spoken)} {round(1.18 * spoken)}",
        f"roughness {int(4 * rough)}",
        *(
            f"formant {index} {round(100 * factor)} {height} {round(85 + 50 * width)}"
            for index, (factor, height) in enumerate(zip(formants, heights, strict=True))
        ),
        # Only half of the speakers breathe audibly.
        f"breath 0 {' '.join([str(round(max(0.0, 2 * breath - 1) * 8))] * 4)} 2 2 1",
    ]
    return SyntheticSpeaker(
        name=name,
        accent=ACCENTS[int(accent * len(ACCENTS))],
        warp=float(warp),
        pitch=float(pitch),
        range=round(25 + 55 * lively),
        rate=float(140 + 55 * rate),
        tilt=float(4.0 * (tilt - 0.5)),
        variant="\n".join(lines) + "\n",
    )


SETTINGS = "voices.json"
MANIFEST = "cuts.jsonl"
# What espeak-ng reads to speak English; its other dictionaries are 20 MB.
DATA = ("phontab", "phonindex", "phondata", "intonations", "en_dict", "lang")


def synthesize_corpus(
    folder: str | Path,
    *,
    speakers: int = 80,
    utterances: int = 20,
    dev_speakers: int = 20,
    seed: int = 0,
    rate: int = 16000,
    progress: Progress | None = None,
) -> Corpus:
    """Speak a corpus of synthetic speakers: a folder of FLAC files per speaker and a cut manifest.

    A finished folder is read, not spoken again; in an interrupted one only finished speakers are kept. Equal
    settings give equal files, bit for bit.

    Args:
        folder: new, empty, or of an earlier call with the same settings.
        speakers: how many; ``dev_speakers`` of them, drawn by the seed, make the split ``dev``, the others
            ``train``.
        utterances: sentences each, 3 to 6 s long.
        rate: hertz.
        progress: called with (done, total) speakers.

    Raises:
        CorpusError: the folder holds something else, or the numbers leave a split without two speakers.
        MissingExtraError: espeakng-loader is not installed.
    """
    folder = Path(folder)
    settings = {
        "speakers": speakers,
        "utterances": utterances,
        "dev_speakers": dev_speakers,
        "seed": seed,
        "rate": rate,
    }
    if min(dev_speakers, speakers - dev_speakers) < 2 or utterances < 2:
        raise CorpusError(
            f"{speakers} speakers, {dev_speakers} of them dev, with {utterances} utterances: "
            "each split needs at least two speakers, each speaker two utterances"
        )
    _claim(folder, settings)
    if not (folder / MANIFEST).is_file():
        people = draw_speakers(speakers, seed)
        with tempfile.TemporaryDirectory(prefix="voices-") as data:
            _copy_data(Path(data), people)
            write_json(folder / SETTINGS, settings)
            in_threads(lambda who: _speak_speaker(folder, Path(data), who, settings), people, progress)
        dev = np.random.default_rng([seed, 1]).permutation(speakers)[:dev_speakers]
        splits = ["dev" if index in dev else "train" for index in range(speakers)]
        spoken = [
            u for who, split in zip(people, splits, strict=True) for u in _utterances(folder, who, split)
        ]
        save_corpus(Corpus(tuple(with_durations(spoken))), folder / MANIFEST, relative=True)
    return load_corpus(folder)


def _claim(folder: Path, settings: dict[str, int]) -> None:
    """Refuse a folder that holds anything but these voices, whole or in part."""
    stated = folder / SETTINGS
    if stated.is_file():
        found = json.loads(stated.read_text())
        if found != settings:
            other = ", ".join(f"{key} {value}" for key, value in found.items())
            raise CorpusError(f"{folder}: holds other voices ({other}); choose another folder or delete it")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CorpusError(f"{folder}: is not empty; choose another folder for the synthetic voices")


def _copy_data(target: Path, people: list[SyntheticSpeaker]) -> None:
    """espeak-ng finds a variant only inside its data folder, so give it a copy with the speakers in it."""
    package = importlib.util.find_spec("espeakng_loader")
    if package is None or package.origin is None:
        raise MissingExtraError("synthetic voices", "voices")
    source = Path(package.origin).parent / "espeak-ng-data"
    variants = target / source.name / "voices" / "!v"
    variants.mkdir(parents=True)
    for name in DATA:
        copy: Any = shutil.copytree if (source / name).is_dir() else shutil.copyfile
        copy(source / name, target / source.name / name)
    for who in people:
        (variants / who.name).write_text(who.variant)


def _utterances(folder: Path, who: SyntheticSpeaker, split: str) -> Iterator[Utterance]:
    for path in sorted((folder / who.name).iterdir()):
        name = f"voices/{who.name}"
        yield Utterance(f"{who.name}/{path.stem}", path, UNKNOWN_SECONDS, name, corpus="voices", split=split)


def _speak_speaker(folder: Path, data: Path, who: SyntheticSpeaker, settings: dict[str, int]) -> None:
    """Write one speaker's folder; it appears when it is complete."""
    if (folder / who.name).is_dir():
        return
    partial = folder / f".{who.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    rng = np.random.default_rng([settings["seed"], 2, int(who.name.rpartition("-")[2])])
    sayings = [_saying(who, rng) for _ in range(settings["utterances"])]
    for index, (wave_N, spoken_rate) in enumerate(_synthesise(data, who, sayings)):
        wave_N = audio.resample(wave_N, round(spoken_rate * who.warp), settings["rate"])
        wave_N = with_tilt(wave_N, settings["rate"], who.tilt)
        peak = 10.0 ** (rng.uniform(-14.0, -2.0) / 20.0)
        wave_N *= np.float32(peak) / np.abs(wave_N).max()
        audio.write(partial / f"{index:03d}.flac", wave_N, settings["rate"])
    partial.rename(folder / who.name)


def _saying(who: SyntheticSpeaker, rng: np.random.Generator) -> dict[str, Any]:
    """A sentence and how it is said this time: pitch within about a semitone, rate within a tenth."""
    return {
        "text": sentence(rng),
        "rate": round(who.rate / who.warp * rng.uniform(0.9, 1.1)),
        "pitch": int(rng.integers(42, 59)),
        "range": int(np.clip(who.range + rng.integers(-12, 13), 0, 99)),
        "seed": int(rng.integers(1, 2**31 - 1)),
    }


def _synthesise(
    data: Path, who: SyntheticSpeaker, sayings: list[dict[str, Any]]
) -> Iterator[tuple[Wave, int]]:
    """Waveforms and their rate, spoken by espeak-ng in a process of its own."""
    job = {"data": str(data), "voice": f"{who.accent}+{who.name}", "sayings": sayings}
    command = [sys.executable, "-P", str(Path(__file__).with_name("voices_worker.py"))]
    done = subprocess.run(command, input=json.dumps(job).encode(), capture_output=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or [f"code {done.returncode}"])[
            -1
        ]
        raise CorpusError(f"synthetic speaker {who.name}: espeak-ng failed ({reason})")
    [rate] = struct.unpack_from("<i", done.stdout)
    at = 4
    for saying in sayings:
        [count] = struct.unpack_from("<i", done.stdout, at)
        samples_N = np.frombuffer(done.stdout, "<i2", count, at + 4)
        at += 4 + 2 * count
        if not samples_N.any():
            raise CorpusError(f"synthetic speaker {who.name}: espeak-ng was silent for '{saying['text']}'")
        yield samples_N.astype(np.float32) / np.float32(32768), rate


def with_tilt(wave_N: Wave, rate: int, db_per_octave: float) -> Wave:
    """Tilt a spectrum about 1 kHz; below 100 Hz the gain stays that of 100 Hz."""
    # A power of two: the transform of a long prime length takes ten times as long. The zeros also keep the
    # filter's tail from wrapping round to the start.
    size = 1 << (len(wave_N) + rate // 10).bit_length()
    octaves = np.log2(np.maximum(np.fft.rfftfreq(size, 1 / rate), 100.0) / 1000.0)
    spectrum = np.fft.rfft(wave_N, size) * 10.0 ** (db_per_octave * octaves / 20.0)
    return np.fft.irfft(spectrum, size)[: len(wave_N)].astype(np.float32)

"""Corpora of synthetic speakers, for demonstrations and tests; the same seed gives the same corpus.

Each speaker is a voice of espeak-ng with random parameters (accent, formants, pitch, breath, rate). The
output is resampled, which simulates a vocal tract of random length, and filtered with a random spectral tilt.
Pitch, melody, rate and level vary slightly between the utterances of a speaker.
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
from separative.corpora.manifest import UNKNOWN_SECONDS, Corpus, Utterance, fill_durations, map_in_threads
from separative.corpora.sentences import sentence
from separative.errors import CorpusError, MissingExtraError
from separative.files import new_folder, read_json, write_json
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
TRAITS = 14
CANDIDATES = 24


@dataclass(frozen=True, slots=True)
class SyntheticSpeaker:
    """Parameters of a synthetic speaker.

    Attributes:
        name: unique within a seed.
        accent: an espeak-ng language; ``en`` is British English.
        warp: factor on all formant frequencies: 0.9 for a large man, 1.3 for a child.
        pitch: mean pitch in hertz.
        range: range of the melody, 0 to 99.
        rate: words per minute.
        tilt: spectral tilt in dB per octave; positive is bright.
        variant: all other parameters, as the content of an espeak-ng variant file.

    >>> speaker = draw_speakers(1, seed=0)[0]
    >>> speaker.name, 80 < speaker.pitch < 300
    ('s0-000', True)
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
    """Draw random synthetic speakers; a larger count only adds speakers.

    Each speaker is the one of ``CANDIDATES`` random candidates that is farthest from all speakers before it
    (Mitchell's best-candidate algorithm), so that no two speakers are similar by chance.

    >>> draw_speakers(3, seed=0)[:2] == draw_speakers(2, seed=0)
    True
    """
    rng = np.random.default_rng([seed, 0])
    chosen = np.empty((0, TRAITS))
    for _ in range(count):
        candidates = rng.random((CANDIDATES, TRAITS))
        if len(chosen):
            distance = np.linalg.norm(candidates[:, None] - chosen[None], axis=-1).min(axis=1)
            chosen = np.vstack([chosen, candidates[distance.argmax()]])
        else:
            chosen = candidates[:1]
    return [_speaker(f"s{seed}-{index:03d}", traits) for index, traits in enumerate(chosen)]


def _speaker(name: str, traits: npt.NDArray[np.float64]) -> SyntheticSpeaker:
    size, voice, f1, f2, f3, f4, width, breath, rough, tilt, rate, lively, accent, bright = traits
    warp = 0.88 + 0.40 * size
    # Small people have higher voices: two thirds of the (logarithmic) pitch depend on the size.
    pitch = 80.0 * 2.0 ** (1.75 * (0.67 * size + 0.33 * voice))
    # Faster playback by `warp` raises both pitch and formants, so the pitch of espeak-ng must be lower.
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
        # Half of the speakers have audible breath.
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
# The data files that espeak-ng needs for English; its other dictionaries are 20 MB.
DATA_FILES = ("phontab", "phonindex", "phondata", "intonations", "en_dict", "lang")


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
    """Synthesise a corpus: a folder of FLAC files per speaker, and a cut manifest.

    Equal settings give equal files, bit for bit. If the folder is complete, it is only read. If an earlier
    call was interrupted, its complete speakers are kept.

    Args:
        folder: new, empty, or of an earlier call with the same settings.
        speakers: number of speakers.
        utterances: number of sentences per speaker, each 3 to 6 s long.
        dev_speakers: number of speakers in the split ``dev``, drawn at random; the others are in ``train``.
        seed: random seed.
        rate: hertz.
        progress: called with (done, total) speakers.

    Raises:
        CorpusError: the folder contains something else, or a split would have fewer than two speakers.
        MissingExtraError: espeakng-loader is not installed.

    >>> corpus = synthesize_corpus("tiny", speakers=4, utterances=2, dev_speakers=2)
    >>> corpus.split("train").speakers
    ('voices/s0-001', 'voices/s0-002')
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
            "each split needs at least two speakers, and each speaker two utterances"
        )
    _check_folder(folder, settings)
    if not (folder / MANIFEST).is_file():
        drawn = draw_speakers(speakers, seed)
        with tempfile.TemporaryDirectory(prefix="voices-") as data:
            _copy_data(Path(data), drawn)
            write_json(folder / SETTINGS, settings)
            map_in_threads(lambda s: _synthesize_speaker(folder, Path(data), s, settings), drawn, progress)
        dev = np.random.default_rng([seed, 1]).permutation(speakers)[:dev_speakers]
        listed: list[Utterance] = []
        for index, speaker in enumerate(drawn):
            listed += _utterances(folder, speaker, "dev" if index in dev else "train")
        save_corpus(Corpus(tuple(fill_durations(listed))), folder / MANIFEST, relative=True)
    return load_corpus(folder)


def _check_folder(folder: Path, settings: dict[str, int]) -> None:
    """Raise CorpusError unless the folder is new, empty, or of an earlier call with these settings."""
    path = folder / SETTINGS
    if not path.is_file():
        new_folder(folder, "the synthetic voices", CorpusError)
        return
    found = read_json(path, CorpusError)
    if not isinstance(found, dict) or not all(type(found.get(key)) is int for key in settings):
        raise CorpusError(f"{path}: not the settings of synthetic voices; choose another folder or delete it")
    if found != settings:
        other = ", ".join(f"{key} {found[key]}" for key in settings)
        raise CorpusError(f"{folder}: contains other voices ({other}); choose another folder or delete it")


def _copy_data(target: Path, speakers: list[SyntheticSpeaker]) -> None:
    """Copy the data folder of espeak-ng and add the speakers: it looks for variants only in that folder."""
    package = importlib.util.find_spec("espeakng_loader")
    if package is None or package.origin is None:
        raise MissingExtraError("synthetic voices", "voices")
    source = Path(package.origin).parent / "espeak-ng-data"
    variants = target / source.name / "voices" / "!v"
    variants.mkdir(parents=True)
    for name in DATA_FILES:
        copy: Any = shutil.copytree if (source / name).is_dir() else shutil.copyfile
        copy(source / name, target / source.name / name)
    for speaker in speakers:
        (variants / speaker.name).write_text(speaker.variant)


def _utterances(folder: Path, speaker: SyntheticSpeaker, split: str) -> Iterator[Utterance]:
    for path in sorted((folder / speaker.name).iterdir()):
        name, label = f"{speaker.name}/{path.stem}", f"voices/{speaker.name}"
        yield Utterance(name, path, UNKNOWN_SECONDS, label, corpus="voices", split=split)


def _synthesize_speaker(
    folder: Path, data: Path, speaker: SyntheticSpeaker, settings: dict[str, int]
) -> None:
    """Write the folder of one speaker under a hidden name, and rename it when it is complete."""
    if (folder / speaker.name).is_dir():
        return
    partial = folder / f".{speaker.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    rng = np.random.default_rng([settings["seed"], 2, int(speaker.name.rpartition("-")[2])])
    prompts = [_draw_prompt(speaker, rng) for _ in range(settings["utterances"])]
    for index, (wave_N, spoken_rate) in enumerate(_run_espeak(data, speaker, prompts)):
        wave_N = audio.resample(wave_N, round(spoken_rate * speaker.warp), settings["rate"])
        wave_N = with_tilt(wave_N, settings["rate"], speaker.tilt)
        peak = 10.0 ** (rng.uniform(-14.0, -2.0) / 20.0)
        wave_N *= np.float32(peak) / np.abs(wave_N).max()
        audio.write(partial / f"{index:03d}.flac", wave_N, settings["rate"])
    partial.rename(folder / speaker.name)


def _draw_prompt(speaker: SyntheticSpeaker, rng: np.random.Generator) -> dict[str, Any]:
    """Draw a sentence and its delivery: the pitch varies by about a semitone, the rate by 10 %."""
    return {
        "text": sentence(rng),
        "rate": round(speaker.rate / speaker.warp * rng.uniform(0.9, 1.1)),
        "pitch": int(rng.integers(42, 59)),
        "range": int(np.clip(speaker.range + rng.integers(-12, 13), 0, 99)),
        "seed": int(rng.integers(1, 2**31 - 1)),
    }


def _run_espeak(
    data: Path, speaker: SyntheticSpeaker, prompts: list[dict[str, Any]]
) -> Iterator[tuple[Wave, int]]:
    """Run espeak-ng in a separate process; yield the waveform of each prompt and its rate in hertz."""
    job = {"data": str(data), "voice": f"{speaker.accent}+{speaker.name}", "prompts": prompts}
    command = [sys.executable, "-P", str(Path(__file__).with_name("voices_worker.py"))]
    done = subprocess.run(command, input=json.dumps(job).encode(), capture_output=True, check=False)
    if done.returncode != 0:
        printed = done.stderr.decode(errors="replace").strip().splitlines()
        reason = printed[-1] if printed else f"code {done.returncode}"
        raise CorpusError(f"synthetic speaker {speaker.name}: espeak-ng failed ({reason})")
    [rate] = struct.unpack_from("<i", done.stdout)
    offset = 4
    for prompt in prompts:
        [count] = struct.unpack_from("<i", done.stdout, offset)
        samples_N = np.frombuffer(done.stdout, "<i2", count, offset + 4)
        offset += 4 + 2 * count
        if not samples_N.any():
            raise CorpusError(
                f"synthetic speaker {speaker.name}: espeak-ng was silent for '{prompt['text']}'"
            )
        yield samples_N.astype(np.float32) / np.float32(32768), rate


def with_tilt(wave: Wave, rate: int, db_per_octave: float) -> Wave:
    """Return the waveform ``[N]`` with a spectral tilt: 0 dB at 1 kHz, constant below 100 Hz.

    >>> tone = np.sin(2 * np.pi * 2000 * np.arange(16000) / 16000).astype(np.float32)
    >>> round(audio.level_db(with_tilt(tone, 16000, -3.0)) - audio.level_db(tone), 1)
    -3.0
    """
    # The size is a power of two because a transform of prime length takes ten times as long. The zeros after
    # the waveform also prevent the end of the filtered signal from wrapping round to its start.
    size = 1 << (len(wave) + rate // 10).bit_length()
    octaves = np.log2(np.maximum(np.fft.rfftfreq(size, 1 / rate), 100.0) / 1000.0)
    spectrum = np.fft.rfft(wave, size) * 10.0 ** (db_per_octave * octaves / 20.0)
    return np.fft.irfft(spectrum, size)[: len(wave)].astype(np.float32)

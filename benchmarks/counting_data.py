"""Conversations to fit decisions on, with the outputs of the model, which are kept in a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from separative import audio
from separative.corpora import load_corpus
from separative.evaluation import read_references
from separative.files import atomic_path
from separative.inference.diarize import HOP, WINDOW
from separative.inference.phases import adapt_activity, run_phases
from separative.inference.windows import WindowGrid, WindowOutputs
from separative.mixtures import ConversationConfig, ConversationSimulator
from separative.rttm import turns_to_frames

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

SEED, FRAME = 22, 0.01
# Number of conversations of each length in seconds; the numbers of speakers 1 to 7 take turns.
LENGTHS = {30: 42, 60: 21, 120: 21, 300: 21, 600: 21, 1200: 7}
MOST_SPEAKERS = 7
STYLES = ("plain", "meeting", "plain", "broadcast", "plain", "interview", "plain", "call")
# Speech over noise of plain conversations, drawn for each; None for no noise.
SNR_DB = (None, (15.0, 25.0), (5.0, 15.0))
# Every third conversation of each number of speakers is not fitted on.
HELD_OUT = 3


@dataclass(frozen=True)
class Case:
    """A conversation: the outputs of the model and the reference.

    Attributes:
        name: unique name.
        kind: group in the tables, "30 s", "60 s", ... or the kind of a real recording.
        fitted: True if the constants are fitted on it.
        windows: outputs of the model with adapted activity, as ``diarize`` uses them.
        reference: who speaks when [K, T], FRAME seconds a frame.
    """

    name: str
    kind: str
    fitted: bool
    windows: WindowOutputs
    reference: np.ndarray

    @property
    def speakers(self) -> int:
        """Number of speakers with a second of speech or more."""
        return int((self.reference.sum(1) * FRAME >= 1).sum())


def simulated(
    model: SeparativeEncoder, data: Path, cache: Path, lengths: Mapping[int, int] = LENGTHS
) -> Iterator[Case]:
    """Simulated conversations of speakers of the split dev, which the model was not trained on.

    ``lengths``: how many of each length in seconds.
    """
    corpus = load_corpus(data / "speech.csv").split("dev").readable.filter(lambda u: u.speaker is not None)
    noise = load_corpus(data / "noise.csv").split("dev")
    for seconds, count in lengths.items():
        for number in range(count):
            rng = np.random.default_rng([SEED, seconds, number])
            settings: dict[str, Any] = {
                "seconds": float(seconds),
                "speakers": number % MOST_SPEAKERS + 1,
                "style": STYLES[rng.integers(len(STYLES))],
                "snr_db": SNR_DB[rng.integers(len(SNR_DB))],
            }
            if settings["style"] == "plain":
                settings["overlap"] = 0.0 if settings["speakers"] == 1 else float(rng.choice([0.0, 0.2, 0.4]))
                settings["pause_seconds"] = float(rng.choice([0.2, 0.5, 2.0]))
            else:
                settings["snr_db"] = None
            config = ConversationConfig(rate=model.rate, **settings)

            def make(config: ConversationConfig = config, number: int = number) -> tuple[Any, Any]:
                simulator = ConversationSimulator(
                    corpus, config, seed=SEED, noise=noise, cache=cache / "speech"
                )
                talk = simulator.conversation(number)
                frames = round(talk.samples / talk.rate / FRAME)
                reference = turns_to_frames(talk.speech_turns(), talk.names, frames, FRAME)
                return talk.render(0, talk.samples)[0], reference[reference.any(1)]

            key = json.dumps([SEED, number, (data / "speech.csv").stat().st_size, settings])
            windows, reference = _outputs(model, cache, key, make)
            fitted = (number // MOST_SPEAKERS + number % MOST_SPEAKERS) % HELD_OUT != HELD_OUT - 1
            yield Case(f"{seconds}-{number}", f"{seconds} s", fitted, windows, reference)


def real(model: SeparativeEncoder, data: Path, cache: Path) -> Iterator[Case]:
    """The real recordings of ``meetings.csv``, which nothing is fitted on."""
    for recording in read_references(data / "meetings.csv")[0]:

        def make(path: Path = recording.path, reference: Any = recording.reference) -> tuple[Any, Any]:
            return audio.read(path, model.rate)[0], reference

        windows, reference = _outputs(
            model, cache, f"{recording.name} {audio.file_stamp(recording.path)}", make
        )
        yield Case(recording.name, recording.kind or "real", False, windows, reference)


def _outputs(model: SeparativeEncoder, cache: Path, key: str, make: Any) -> tuple[WindowOutputs, np.ndarray]:
    """Outputs and reference from the cache, or else computed for the waveform that ``make`` returns."""
    grid = WindowGrid.for_model(model, WINDOW, HOP)
    digest = hashlib.sha256(f"{model.card.get('sha256')} {grid} {key}".encode()).hexdigest()[:20]
    path = cache / f"{digest}.npz"
    if not path.exists():
        wave_N, reference_KT = make()
        windows = run_phases(model, [wave_N], grid, len(wave_N) / model.rate, None, None)
        cache.mkdir(parents=True, exist_ok=True)
        _save(path, windows, reference_KT)
    with np.load(path) as file:
        return _load(file, grid), np.unpackbits(file["reference"], axis=1)[:, : file["frames"]].astype(bool)


def _save(path: Path, windows: WindowOutputs, reference_KT: np.ndarray) -> None:
    arrays: dict[str, Any] = {
        "memory": windows.memory.astype(np.float16),
        "logit": windows.memory_logit,
        "reference": np.packbits(reference_KT, axis=1),
        "frames": reference_KT.shape[1],
        "samples": [phase.samples for phase in windows.phases],
        "offset": [phase.offset for phase in windows.phases],
    }
    for number, phase in enumerate(windows.phases):
        arrays[f"activity{number}"] = phase.raw_activity
        arrays[f"query{number}"] = phase.query
        arrays[f"level{number}"] = phase.level_db
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def _load(file: Any, grid: WindowGrid) -> WindowOutputs:
    memory, logit = file["memory"].astype(np.float32), file["logit"]
    none = memory[:0], logit[:0]
    first, *shifted = adapt_activity(
        [
            WindowOutputs(
                grid,
                file[f"activity{n}"],
                file[f"query{n}"],
                *((memory, logit) if n == 0 else none),
                file[f"level{n}"],
                int(samples),
                int(offset),
            )
            for n, (samples, offset) in enumerate(zip(file["samples"], file["offset"], strict=True))
        ]
    )
    return replace(first, shifted=tuple(shifted))

"""Who can be heard: the identities of a corpus, and crops of their speech of any length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from separative import audio
from separative.corpora.manifest import Corpus, Utterance
from separative.corpora.store import WaveStore
from separative.errors import CorpusError
from separative.mixtures.config import MixtureConfig
from separative.types import Wave

CROP_TRIES = 4
JOIN_FADE_SECONDS = 0.005


@dataclass(frozen=True)
class SourcePool:
    """Speakers (or recordings) in a fixed order, each with its utterances.

    ``unlabelled`` are recordings that may interfere without an identity; ``unlabelled_share`` is their share
    of the speech in seconds, and so the share of interferers drawn from them. An identity is a voice at one
    speed: number ``voice * S + speed``.
    """

    names: tuple[str, ...]
    utterances: tuple[tuple[Utterance, ...], ...]
    unlabelled: tuple[tuple[Utterance, ...], ...]
    unlabelled_share: float

    @staticmethod
    def of(corpus: Corpus, config: MixtureConfig, store: WaveStore) -> SourcePool:
        """The voices of a corpus under a configuration; files known to be bad are left out.

        Raises:
            CorpusError: fewer voices than the speakers of a mixture, or fewer identities than the condition
                groups of a step.
        """
        good = corpus.filter(lambda u: u.path not in store.bad)
        spare = good.filter(lambda u: u.speaker is None).identities("recording")
        if config.identity == "recording":
            kept = good if config.unlabelled != "drop" else good.filter(lambda u: u.speaker is not None)
            voices = kept.identities("recording")
            spare = {}
        else:
            voices = dict(good.identities("speaker"))
            if config.unlabelled == "identity":
                voices |= spare
            if config.unlabelled != "interfere":
                spare = {}
        seconds, spare_seconds = (sum(u.seconds for v in d.values() for u in v) for d in (voices, spare))
        made = SourcePool(
            names=tuple(voices),
            utterances=tuple(voices.values()),
            unlabelled=tuple(spare.values()),
            unlabelled_share=spare_seconds / (seconds + spare_seconds) if spare else 0.0,
        )
        made._check(config)
        return made

    def _check(self, config: MixtureConfig) -> None:
        kind = "speakers" if config.identity == "speaker" else "recordings"
        most = max(max(i for i, share in enumerate(s.speakers, 1) if share > 0) for s in config.stages)
        if len(self.names) < most:
            raise CorpusError(
                f"the corpus has {len(self.names)} {kind}, mixtures of {most} need {most} different ones"
            )
        groups = max(config.batch // stage.views for stage in config.stages)
        identities = len(self.names) * len(config.speeds)
        if identities < groups:
            raise CorpusError(
                f"the corpus has {identities} identities ({len(self.names)} {kind} at {len(config.speeds)} "
                f"speeds), a step needs {groups} different targets: lower mixtures.batch or raise views"
            )


def cut(
    store: WaveStore,
    utterances: tuple[Utterance, ...],
    order: npt.NDArray[np.int64],
    samples: int,
    speed: float,
    min_speech: float,
    rng: np.random.Generator,
) -> tuple[Wave, list[dict[str, Any]]]:
    """Speech of one voice: float32 ``[samples]`` and the pieces it was cut from.

    The first utterance in ``order`` is cropped where it is long enough; else it is joined with the next ones,
    each piece faded in and out over 5 ms. Only a voice with too little speech in all is padded with zeros,
    at a random place. A ``speed`` above 1 reads more and plays it faster, which also raises the pitch.

    Raises:
        CorpusError: none of the utterances can be read.
    """
    need = round(samples * speed) if speed != 1.0 else samples
    pieces: list[dict[str, Any]] = []
    waves: list[Wave] = []
    missing = need
    for utterance in (utterances[i] for i in order):
        length = store.length(utterance)
        if length == 0:
            continue
        take = min(length, missing)
        start = crop_start(store, utterance, take, min_speech, rng)
        waves.append(store.read(utterance, start, take))
        pieces.append({"utterance": utterance.id, "start": start, "samples": take})
        missing -= take
        if missing == 0:
            break
    if not waves:
        raise CorpusError(f"{utterances[0].path}: no utterance of this voice can be read; remove it")
    if len(waves) > 1 or missing:
        fade = np.linspace(0.0, 1.0, round(JOIN_FADE_SECONDS * store.rate), dtype=np.float32)
        for wave in waves:
            edge = min(len(fade), len(wave) // 2)
            wave[:edge] *= fade[:edge]
            wave[len(wave) - edge :] *= fade[:edge][::-1]
        before = int(rng.integers(missing + 1))
        waves = [np.zeros(before, np.float32), *waves, np.zeros(missing - before, np.float32)]
    wave_N = np.concatenate(waves) if len(waves) > 1 else waves[0]
    if speed == 1.0:
        return wave_N, pieces
    played_N = audio.resample(wave_N, round(store.rate * speed), store.rate)
    # The resampler's length is right to a sample; the rest is silence.
    return np.pad(played_N[:samples], (0, max(0, samples - len(played_N)))), pieces


def crop_start(
    store: WaveStore, utterance: Utterance, take: int, min_speech: float, rng: np.random.Generator
) -> int:
    """Where to crop ``take`` samples: the first try with enough active frames, or the best of a few."""
    length = store.length(utterance)
    if length == take:
        return 0
    best, best_share = 0, -1.0
    for start in rng.integers(length - take + 1, size=CROP_TRIES):
        frames = store.active(utterance, int(start), take)
        share = float(frames.mean()) if len(frames) else 0.0
        if share > best_share:
            best, best_share = int(start), share
        if share >= min_speech:
            break
    if best_share == 0.0:
        # A little speech in much silence: go to one of its active frames. Crops under a frame land here too.
        speech = np.flatnonzero(store.active(utterance))
        if len(speech):
            centre = int(rng.choice(speech)) * store.hop + store.hop // 2
            best = min(max(centre - take // 2, 0), length - take)
    return best

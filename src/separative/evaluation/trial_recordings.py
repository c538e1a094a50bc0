"""Reading the waveforms that the sides of a trial list are mixed from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from separative import audio
from separative.corpora.manifest import Corpus, Utterance
from separative.errors import CorpusError, SeparativeError
from separative.evaluation.conditions import SideWaveforms
from separative.evaluation.trials import RoomSettings, TrialSide
from separative.mixtures.rooms import FORMAT, RoomBank
from separative.types import Wave

COHORT_DB = -26.0


class TrialRecordings:
    """The utterances, noise clips and simulated rooms that trial sides refer to.

    Args:
        corpus: speech; every utterance of the trial list must be in it.
        noise: noise clips; None if no condition needs noise.
        rate: sample rate in Hz of the waveforms.
        seconds: length of every waveform.
        cache: folder in which simulated rooms are stored. Rooms are simulated when first needed.

    Raises:
        CorpusError: an utterance and a noise clip have the same id.

    >>> from separative.corpora import load_corpus
    >>> from separative.evaluation import build_trials
    >>> corpus = load_corpus("speech")
    >>> trials = build_trials(corpus, seconds=2.0, conditions=["overlap0"])
    >>> recordings = TrialRecordings(corpus, None, rate=16000, seconds=2.0)
    >>> recordings.load(trials.tests[0], interferers=1, noise=False).target.shape
    (32000,)
    """

    def __init__(
        self,
        corpus: Corpus,
        noise: Corpus | None,
        rate: int,
        seconds: float,
        cache: str | Path | None = None,
    ) -> None:
        clips = {u.id: u for u in noise or ()}
        if both := sorted(u.id for u in corpus if u.id in clips):
            raise CorpusError(f"the id '{both[0]}' is in the corpus and in the noise; rename one of the two")
        self.utterances = {u.id: u for u in corpus} | clips
        self.rate, self.seconds, self.cache = rate, seconds, None if cache is None else Path(cache)
        self._banks: dict[RoomSettings, RoomBank] = {}

    def room_bank(self, rooms: RoomSettings) -> RoomBank:
        """The impulse responses of the rooms of a trial list.

        Raises:
            MissingExtraError: the rooms must be simulated and the extra ``rooms`` is not installed.
            SeparativeError: the list's rooms are of another version of the simulation.
        """
        if rooms.format != FORMAT:
            raise SeparativeError(
                f"the rooms of the trial list have format {rooms.format}, but this version simulates format "
                f"{FORMAT}; draw the trial list again"
            )
        if rooms not in self._banks:
            self._banks[rooms] = RoomBank.load(
                self.rate, rooms.rt60, rooms.count, rooms.positions, rooms.seed, self.cache
            )
        return self._banks[rooms]

    def load(
        self, side: TrialSide, *, interferers: int, noise: bool, rooms: RoomSettings | None = None
    ) -> SideWaveforms:
        """Read a side's target, first ``interferers`` interferers and, if requested, noise and room.

        Raises:
            CorpusError: the corpus lacks an utterance; the message names it.
            AudioError: a file cannot be read.
            MissingExtraError, SeparativeError: see :meth:`room_bank`.
        """
        speakers = [self._join(self._find(side.utterances))]
        speakers += [self._join(self._find(other.utterances)) for other in side.interferers[:interferers]]
        noise_N = None
        if noise and side.noise is not None:
            clip_N = self._read(self._find([side.noise])[0], side.noise_start, self.seconds)
            noise_N = np.resize(clip_N, round(self.seconds * self.rate))  # repeats a clip that is too short
        room: tuple[Wave, ...] = ()
        if rooms is not None:
            bank = self.room_bank(rooms)
            room = tuple(
                bank.reverberate(wave_N, side.room, position)
                for wave_N, position in zip(speakers, side.positions, strict=False)
            )
        return SideWaveforms(speakers[0], tuple(speakers[1:]), noise_N, side.level_db, self.rate, room)

    def load_cohort(self, corpus: Corpus, count: int) -> list[Wave]:
        """One clean waveform for each of up to ``count`` speakers with enough speech, evenly spread by name.

        Raises:
            CorpusError: fewer than two speakers have enough speech.
        """
        enough = [u for u in corpus.by_speaker.values() if sum(x.seconds for x in u) >= self.seconds]
        if len(enough) < 2:
            raise CorpusError(
                "score normalisation needs a cohort of at least two speakers with "
                f"{self.seconds:g} s of speech each"
            )
        chosen = [enough[i * len(enough) // count] for i in range(count)] if len(enough) > count else enough
        waves = []
        for utterances in chosen:
            wave_N = self._join(utterances)
            waves.append(wave_N * np.float32(10 ** ((COHORT_DB - audio.level_db(wave_N)) / 20)))
        return waves

    def _join(self, utterances: Iterable[Utterance]) -> Wave:
        # Manifests round durations, so a few milliseconds may be missing at the end: they stay zero.
        joined_N, at = np.zeros(round(self.seconds * self.rate), np.float32), 0
        for utterance in utterances:
            wave_N = self._read(utterance)[: len(joined_N) - at]
            joined_N[at : at + len(wave_N)] = wave_N
            at += len(wave_N)
            if at == len(joined_N):
                break
        return joined_N

    def _find(self, names: Sequence[str]) -> list[Utterance]:
        for name in names:
            if name not in self.utterances:
                raise CorpusError(f"the trial list names '{name}', which is not in the corpus")
        return [self.utterances[name] for name in names]

    def _read(self, utterance: Utterance, start: float = 0.0, seconds: float | None = None) -> Wave:
        length = utterance.seconds if seconds is None else min(seconds, utterance.seconds)
        return utterance.read(self.rate, start, length)

"""From a side of a trial list to the waveforms it is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from separative import audio
from separative.corpora.manifest import Corpus, Utterance
from separative.errors import CorpusError, SeparativeError
from separative.evaluation.conditions import Parts
from separative.evaluation.trials import Rooms, Side
from separative.mixtures.rooms import FORMAT, RoomBank
from separative.types import Wave

COHORT_DB = -26.0


class Sounds:
    """Decodes the utterances and noise clips that sides name, at ``rate`` hertz, ``seconds`` long.

    Simulated rooms are computed when first heard and, with a folder ``cache``, kept there.

    Raises:
        CorpusError: an utterance and a clip of one id.
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
            raise CorpusError(f"'{both[0]}' is an id of the corpus and of the noise: give one another id")
        self.utterances = {u.id: u for u in corpus} | clips
        self.rate, self.seconds, self.cache = rate, seconds, None if cache is None else Path(cache)
        self._banks: dict[Rooms, RoomBank] = {}

    def bank(self, rooms: Rooms) -> RoomBank:
        """The impulse responses of a list's rooms.

        Raises:
            MissingExtraError: they have to be computed and the extra ``rooms`` is not installed.
            SeparativeError: the list's rooms are of another version of the simulation.
        """
        if rooms.format != FORMAT:
            raise SeparativeError(
                f"the trial list's rooms are of format {rooms.format}, this version makes those of {FORMAT}"
            )
        if rooms not in self._banks:
            self._banks[rooms] = RoomBank.load(
                self.rate, rooms.rt60, rooms.count, rooms.places, rooms.seed, self.cache
            )
        return self._banks[rooms]

    def parts(self, side: Side, *, rivals: int, noise: bool, rooms: Rooms | None = None) -> Parts:
        """Target, the first ``rivals`` interferers and, if wanted, the noise of a side and its room.

        Raises:
            CorpusError: the corpus lacks an utterance; names it.
            AudioError: an unreadable file.
            MissingExtraError, SeparativeError: see :meth:`bank`.
        """
        speakers = [self._joined(self._named(side.utterances))]
        speakers += [self._joined(self._named(rival.utterances)) for rival in side.rivals[:rivals]]
        bank = None if rooms is None else self.bank(rooms)
        noise_N = None
        if noise and side.noise is not None:
            clip_N = self._read(self._named([side.noise])[0], side.noise_start, self.seconds)
            noise_N = np.resize(clip_N, round(self.seconds * self.rate))  # a short clip is repeated
        return Parts(
            speakers[0],
            tuple(speakers[1:]),
            noise_N,
            side.level_db,
            self.rate,
            ()
            if bank is None
            else tuple(
                bank.reverberate(w, side.room, p) for w, p in zip(speakers, side.places, strict=False)
            ),
        )

    def _joined(self, utterances: Iterable[Utterance]) -> Wave:
        # Stated durations are rounded: a few milliseconds may be missing at the end.
        joined_N, at = np.zeros(round(self.seconds * self.rate), np.float32), 0
        for utterance in utterances:
            wave_N = self._read(utterance)[: len(joined_N) - at]
            joined_N[at : at + len(wave_N)] = wave_N
            at += len(wave_N)
            if at == len(joined_N):
                break
        return joined_N

    def _named(self, names: Sequence[str]) -> list[Utterance]:
        for name in names:
            if name not in self.utterances:
                raise CorpusError(f"the trial list names '{name}', which is not in the corpus")
        return [self.utterances[name] for name in names]

    def _read(self, utterance: Utterance, start: float = 0.0, seconds: float | None = None) -> Wave:
        length = utterance.seconds if seconds is None else min(seconds, utterance.seconds)
        return audio.read(utterance.path, self.rate, start=utterance.start + start, seconds=length)[0]

    def cohort(self, corpus: Corpus, most: int) -> list[Wave]:
        """A clean wave of each of ``most`` speakers, spread over the alphabet, with enough speech for it.

        Raises:
            CorpusError: fewer than two speakers with enough speech.
        """
        enough = [u for u in corpus.by_speaker.values() if sum(x.seconds for x in u) >= self.seconds]
        if len(enough) < 2:
            raise CorpusError(
                f"score normalisation needs a cohort of two speakers or more with {self.seconds:g} s of speech"
            )
        picked = [enough[i * len(enough) // most] for i in range(most)] if len(enough) > most else enough
        waves = []
        for utterances in picked:
            wave_N = self._joined(utterances)
            waves.append(wave_N * np.float32(10 ** ((COHORT_DB - audio.level_db(wave_N)) / 20)))
        return waves

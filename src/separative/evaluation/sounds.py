"""From a side of a trial list to the waveforms it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from separative import audio
from separative.corpora.manifest import Corpus
from separative.errors import CorpusError, SeparativeError
from separative.evaluation.conditions import Parts
from separative.evaluation.trials import Rooms, Side
from separative.inference.recording import Wave
from separative.mixtures.rooms import FORMAT, RoomBank


class Sounds:
    """Decodes the utterances and noise clips that sides name, at ``rate`` hertz, ``seconds`` long.

    ``rooms`` are those of the trial list, computed when first heard and, with a folder ``cache``, kept there.
    """

    def __init__(
        self,
        corpus: Corpus,
        noise: Corpus | None,
        rate: int,
        seconds: float,
        rooms: Rooms | None = None,
        cache: Path | None = None,
    ) -> None:
        self.utterances = {u.id: u for u in (*corpus, *(noise or ()))}
        self.rate, self.seconds, self.rooms, self.cache = rate, seconds, rooms or Rooms(), cache

    @cached_property
    def bank(self) -> RoomBank:
        """The rooms' impulse responses.

        Raises:
            MissingExtraError: they have to be computed and the extra ``rooms`` is not installed.
            SeparativeError: the list's rooms are of another version of the simulation.
        """
        where = self.rooms
        if where.format != FORMAT:
            raise SeparativeError(
                f"the trial list's rooms are of format {where.format}, this version makes those of {FORMAT}"
            )
        return RoomBank.load(self.rate, where.rt60, where.count, where.places, where.seed, self.cache)

    def parts(self, side: Side, *, rivals: int, noise: bool, room: bool = False) -> Parts:
        """Target, the first ``rivals`` interferers and, if wanted, the noise of a side and its room.

        Raises:
            CorpusError: the corpus lacks an utterance; names it.
            AudioError: an unreadable file.
            MissingExtraError, SeparativeError: see :attr:`bank`.
        """
        talkers = [self._joined(side.utterances)]
        talkers += [self._joined(rival.utterances) for rival in side.rivals[:rivals]]
        placed = zip(talkers, side.places, strict=False) if room else ()
        noise_N = None
        if noise and side.noise is not None:
            clip_N = self._read(side.noise, side.noise_start, self.seconds)
            noise_N = np.resize(clip_N, round(self.seconds * self.rate))  # a short clip is repeated
        return Parts(
            talkers[0],
            tuple(talkers[1:]),
            noise_N,
            side.level_db,
            self.rate,
            tuple(self.bank.reverberate(wave_N, side.room, place) for wave_N, place in placed),
        )

    def _joined(self, ids: Sequence[str]) -> Wave:
        whole_N = np.concatenate([self._read(name) for name in ids])
        # Stated durations are rounded: a few milliseconds may be missing at the end.
        joined_N = np.zeros(round(self.seconds * self.rate), np.float32)
        joined_N[: len(whole_N)] = whole_N[: len(joined_N)]
        return joined_N

    def _read(self, name: str, start: float = 0.0, seconds: float | None = None) -> Wave:
        if name not in self.utterances:
            raise CorpusError(f"the trial list names '{name}', which is not in the corpus")
        utterance = self.utterances[name]
        length = utterance.seconds if seconds is None else min(seconds, utterance.seconds)
        return audio.read(utterance.path, self.rate, start=utterance.start + start, seconds=length)[0]

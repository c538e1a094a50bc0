"""From a side of a trial list to the waveforms it is made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from separative import audio
from separative.corpora.manifest import Corpus
from separative.errors import CorpusError
from separative.evaluation.conditions import Parts
from separative.evaluation.trials import Side
from separative.inference.recording import Wave


class Sounds:
    """Decodes the utterances and noise clips that sides name, at ``rate`` hertz, ``seconds`` long."""

    def __init__(self, corpus: Corpus, noise: Corpus | None, rate: int, seconds: float) -> None:
        self.utterances = {u.id: u for u in (*corpus, *(noise or ()))}
        self.rate, self.seconds = rate, seconds

    def parts(self, side: Side, *, rivals: int, noise: bool) -> Parts:
        """Target, the first ``rivals`` interferers and, if wanted, the noise of a side.

        Raises:
            CorpusError: the corpus lacks an utterance; names it.
            AudioError: an unreadable file.
        """
        noise_N = None
        if noise and side.noise is not None:
            clip_N = self._read(side.noise, side.noise_start, self.seconds)
            noise_N = np.resize(clip_N, round(self.seconds * self.rate))  # a short clip is repeated
        return Parts(
            self._joined(side.utterances),
            tuple(self._joined(rival.utterances) for rival in side.rivals[:rivals]),
            noise_N,
            side.level_db,
            self.rate,
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

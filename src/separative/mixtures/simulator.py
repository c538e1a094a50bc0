"""Draw simulated conversations from a corpus, and write lists of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from separative.corpora.manifest import Corpus
from separative.corpora.store import WaveStore
from separative.errors import CorpusError
from separative.files import replace_file
from separative.mixtures.config import ConversationConfig, MixtureConfig, Stage
from separative.mixtures.conversation import LEVEL_DB, Conversation
from separative.mixtures.rooms import EVALUATION_SEED, RoomBank
from separative.mixtures.scene import Scene
from separative.mixtures.sources import SourcePool
from separative.mixtures.styles import STYLES
from separative.mixtures.turn_taking import ConversationPlan, plan_style
from separative.mixtures.turns import plan_turns
from separative.types import Progress

# First key of the seed of the random stream that plans a conversation.
PLAN = 11


class ConversationSimulator:
    """Draws conversations from a corpus.

    Args:
        corpus: speech with speaker labels.
        config: what to draw.
        seed: random seed, 0 or more; the same seed gives the same conversations.
        noise: noise clips; needed if ``config.snr_db`` is set.
        cache: folder for decoded audio and rooms.
        progress: called with (done, total) while audio is decoded.

    Raises:
        CorpusError: no corpus in ``corpus`` has enough speakers, or noise is missing.
        MissingExtraError: the configuration has rooms and pyroomacoustics is not installed.

    >>> from separative import load_corpus
    >>> config = ConversationConfig(seconds=20.0, speakers=2, turn_seconds=(0.5, 1.0))
    >>> simulator = ConversationSimulator(load_corpus("speech"), config, seed=0)
    >>> simulator.conversation(7).turns == simulator.conversation(7).turns
    True
    """

    def __init__(
        self,
        corpus: Corpus,
        config: ConversationConfig,
        *,
        seed: int,
        noise: Corpus | None = None,
        cache: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.config, self.seed = config, seed
        # None for the plain style.
        self.style = STYLES.get(config.style)
        self.store = WaveStore(corpus, config.rate, cache, progress)
        single = MixtureConfig(
            rate=config.rate, streams=1, batch=1, unlabelled="drop", stages=(Stage(speakers=(1.0,)),)
        )
        self.pool = SourcePool.from_corpus(corpus, single, self.store)
        by_corpus: dict[str, list[int]] = {}
        for speaker, utterances in enumerate(self.pool.utterances):
            by_corpus.setdefault(utterances[0].corpus, []).append(speaker)
        self.groups = [group for group in by_corpus.values() if len(group) >= config.speakers]
        if not self.groups:
            most = max(len(group) for group in by_corpus.values())
            raise CorpusError(
                f"a conversation needs {config.speakers} speakers of one corpus, but the largest corpus has "
                f"{most}: lower the number of speakers"
            )
        self.noise = None if noise is None else WaveStore(noise, config.rate, cache, progress)
        self.clips = tuple(clip for clip in noise or () if self.noise and self.noise.length(clip))
        if config.snr_db is not None and not self.clips:
            raise CorpusError("snr_db is set, but there are no noise clips: name a noise corpus")
        self.bank = None
        if config.rooms:
            self.bank = RoomBank.load(
                config.rate,
                config.rt60,
                config.rooms,
                max(8, config.speakers),
                EVALUATION_SEED + seed,
                cache,
            )

    def conversation(self, number: int) -> Conversation:
        """Plan conversation ``number``, 0 or more."""
        rng = np.random.default_rng([self.seed, PLAN, number])
        config = self.config
        sizes = np.array([len(group) for group in self.groups])
        group = self.groups[int(rng.choice(len(sizes), p=sizes / sizes.sum()))]
        speakers = tuple(int(k) for k in rng.choice(group, config.speakers, replace=False))
        samples_K = [sum(self.store.length(u) for u in self.pool.utterances[k]) for k in speakers]
        speech_K = np.array(samples_K) / config.rate
        room, scene = None, None
        if self.style is None:
            plan = ConversationPlan(tuple(plan_turns(rng, config, speech_K)))
            level_db = config.level_db
        else:
            plan = plan_style(
                rng,
                self.style,
                speakers=config.speakers,
                seconds=config.seconds,
                rate=config.rate,
                speech_seconds=speech_K,
            )
            scene = Scene.draw(rng, config.rate, self.style, config.speakers)
            level_db = self.style.level_db
        gains = 10 ** ((LEVEL_DB + rng.uniform(*level_db, config.speakers)) / 20)
        if self.bank is not None:
            room = int(rng.integers(len(self.bank.responses)))
        snr_db = None if config.snr_db is None else float(rng.uniform(*config.snr_db))
        clips: list[int] = []
        if snr_db is not None and self.noise is not None:
            left = config.seconds * config.rate
            while left > 0:
                clips.append(int(rng.integers(len(self.clips))))
                left -= self.noise.length(self.clips[clips[-1]])
        return Conversation(self, number, speakers, plan, tuple(gains.tolist()), room, scene, snr_db, clips)


def write_recordings(path: str | Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a list of recordings (CSV) that ``separative evaluate-recordings`` reads.

    >>> write_recordings("recordings.csv", [{"recording": "0000", "path": "0000.wav", "rttm": "0000.rttm"}])
    >>> Path("recordings.csv").read_text().splitlines()
    ['recording,path,rttm', '0000,0000.wav,0000.rttm']
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_file(path, text.getvalue().encode())

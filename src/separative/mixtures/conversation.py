"""Simulated conversations: speakers take turns, pause, interrupt each other and give backchannels.

A conversation is planned as a whole (who speaks when, from which utterances) and rendered in blocks, so that
hours of it need little memory. Like a mixture, it is a pure function of corpus, configuration, seed and
number.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from separative import audio
from separative.corpora.decoded import FRAMES_PER_SECOND
from separative.corpora.manifest import Corpus, Utterance
from separative.corpora.store import WaveStore
from separative.errors import CorpusError
from separative.files import write_json
from separative.mixtures.config import ConversationConfig, MixtureConfig, Stage
from separative.mixtures.gains import power
from separative.mixtures.rooms import EVALUATION_SEED, RoomBank
from separative.mixtures.sources import SourcePool, crop_speech
from separative.mixtures.turns import PlannedTurn, plan_turns
from separative.rttm import Turn, frames_to_turns, write_rttm
from separative.types import Progress, Wave

# First key of the seed of each random stream; a Mixer uses 1 to 3.
PLAN, TURN = 11, 12
# RMS of a speaker at 0 dB relative level. It leaves 28 dB for loud syllables of several speakers.
LEVEL_DB = -28.0
BLOCK_SECONDS = 30.0
# Number of rendered turns that are kept for the next block.
RECENT_TURNS = 8


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
                config.rate, config.rt60, config.rooms, 8, EVALUATION_SEED + seed, cache
            )

    def conversation(self, number: int) -> Conversation:
        """Plan conversation ``number``, 0 or more."""
        rng = np.random.default_rng([self.seed, PLAN, number])
        config = self.config
        sizes = np.array([len(group) for group in self.groups])
        group = self.groups[int(rng.choice(len(sizes), p=sizes / sizes.sum()))]
        speakers = tuple(int(k) for k in rng.choice(group, config.speakers, replace=False))
        samples_K = [sum(self.store.length(u) for u in self.pool.utterances[k]) for k in speakers]
        turns = plan_turns(rng, config, np.array(samples_K) / config.rate)
        gains = 10 ** ((LEVEL_DB + rng.uniform(*config.level_db, config.speakers)) / 20)
        room = None
        if self.bank is not None:
            room = int(rng.integers(len(self.bank.responses)))
        snr_db = None if config.snr_db is None else float(rng.uniform(*config.snr_db))
        clips: list[int] = []
        if snr_db is not None and self.noise is not None:
            left = config.seconds * config.rate
            while left > 0:
                clips.append(int(rng.integers(len(self.clips))))
                left -= self.noise.length(self.clips[clips[-1]])
        return Conversation(self, number, speakers, tuple(turns), tuple(gains.tolist()), room, snr_db, clips)


@dataclass(frozen=True)
class Conversation:
    """A planned conversation between K speakers.

    Attributes:
        simulator: what planned it.
        number: its number.
        speakers: numbers of the speakers in the simulator's pool.
        turns: all turns by start; ``turn.speaker`` is an index into ``speakers``.
        gains: linear gain of each speaker.
        room: number of the room; None for no room.
        snr_db: speech over noise; None for no noise.
        clips: numbers of the noise clips, one after another.

    >>> from separative import load_corpus
    >>> config = ConversationConfig(seconds=10.0, speakers=2, turn_seconds=(0.5, 1.0))
    >>> conversation = ConversationSimulator(load_corpus("speech"), config, seed=0).conversation(0)
    >>> mixture, sources = conversation.render(0, conversation.samples)
    >>> mixture.shape, sources.shape
    ((160000,), (2, 160000))
    """

    simulator: ConversationSimulator
    number: int
    speakers: tuple[int, ...]
    turns: tuple[PlannedTurn, ...]
    gains: tuple[float, ...]
    room: int | None
    snr_db: float | None
    clips: list[int]
    _recent: OrderedDict[int, Wave] = field(
        default_factory=OrderedDict, init=False, repr=False, compare=False
    )

    @property
    def rate(self) -> int:
        """Sample rate in hertz."""
        return self.simulator.config.rate

    @property
    def samples(self) -> int:
        """Length in samples."""
        return round(self.simulator.config.seconds * self.rate)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the speakers in the corpus."""
        return tuple(self.simulator.pool.names[speaker] for speaker in self.speakers)

    @property
    def overlap(self) -> float:
        """Time in which planned turns overlap, divided by the time covered by turns."""
        hop = self.rate // FRAMES_PER_SECOND
        count_T = np.zeros(self.samples // hop + 1, np.int16)
        for turn in self.turns:
            count_T[turn.start // hop : turn.end // hop] += 1
        return float((count_T > 1).sum() / max(1, (count_T > 0).sum()))

    def speech_turns(self) -> list[Turn]:
        """The reference for diarization: who speaks when, without the pauses inside planned turns."""
        hop = self.rate // FRAMES_PER_SECOND
        active_KT = np.zeros((len(self.speakers), self.samples // hop + 1), bool)
        for index, turn in enumerate(self.turns):
            _, crops = self._crop(index)
            at = turn.start
            for utterance, start, count in crops:
                frames_T = self.simulator.store.active(utterance, start, count)
                first = at // hop
                row_T = active_KT[turn.speaker, first : first + len(frames_T)]
                row_T |= frames_T[: len(row_T)]
                at += count
        return frames_to_turns(active_KT, self.names, hop / self.rate)

    def render(self, start: int, stop: int) -> tuple[Wave, Wave]:
        """The mixture [N] and each speaker's part of it [K,N], for samples ``[start, stop)``."""
        source_KN = np.zeros((len(self.speakers), stop - start), np.float32)
        for index, turn in enumerate(self.turns):
            if turn.start >= stop or turn.end + self._tail <= start:
                continue
            wave_N = self._turn(index)
            first, last = max(start, turn.start), min(stop, turn.start + len(wave_N))
            if last > first:
                part_N = wave_N[first - turn.start : last - turn.start]
                source_KN[turn.speaker, first - start : last - start] += part_N
        return source_KN.sum(0) + self._noise(start, stop), source_KN

    def write(self, folder: str | Path, stem: str, *, progress: Progress | None = None) -> Path:
        """Write the mixture, its reference and its description; returns the path of the mixture.

        The files are ``<stem>.wav`` (16 bit), ``<stem>.rttm`` (who speaks when) and ``<stem>.json``.

        Raises:
            AudioError: the mixture cannot be written.
        """
        folder = Path(folder)
        block = round(BLOCK_SECONDS * self.rate)
        path = folder / f"{stem}.wav"
        with audio.writer(path, self.rate) as write:
            for start in range(0, self.samples, block):
                write(self.render(start, min(start + block, self.samples))[0])
                if progress is not None:
                    progress(min(start + block, self.samples), self.samples)
        write_rttm(folder / f"{stem}.rttm", stem, self.speech_turns())
        write_json(folder / f"{stem}.json", self.describe())
        return path

    def describe(self) -> dict[str, Any]:
        """What was drawn and from which settings, as values that JSON can hold."""
        bank = self.simulator.bank
        return {
            "number": self.number,
            "seed": self.simulator.seed,
            "speakers": list(self.names),
            "overlap": round(self.overlap, 4),
            "turns": len(self.turns),
            "snr_db": self.snr_db,
            "room": None if self.room is None or bank is None else bank.describe(self.room),
            "config": self.simulator.config.model_dump(mode="json"),
        }

    @property
    def _tail(self) -> int:
        """Samples of reverberation after the end of a turn."""
        bank = self.simulator.bank
        return 0 if bank is None else bank.responses.shape[-1]

    def _crop(self, index: int) -> tuple[Wave, list[tuple[Utterance, int, int]]]:
        """The speech of a turn, and utterance, start and length of the crops that it consists of."""
        simulator, turn = self.simulator, self.turns[index]
        rng = np.random.default_rng([simulator.seed, TURN, self.number, index])
        utterances = simulator.pool.utterances[self.speakers[turn.speaker]]
        order = rng.permutation(len(utterances))
        wave_N, crops = crop_speech(simulator.store, utterances, order, turn.samples, 1.0, 0.5, rng)
        by_id = {utterance.id: utterance for utterance in utterances}
        return wave_N, [(by_id[crop["utterance"]], crop["start"], crop["samples"]) for crop in crops]

    def _turn(self, index: int) -> Wave:
        """A turn with its gain and room, from a small cache since blocks are rendered in order."""
        recent = self._recent
        if index not in recent:
            turn, bank = self.turns[index], self.simulator.bank
            wave_N, _ = self._crop(index)
            gain = self.gains[turn.speaker] / max(power(wave_N) ** 0.5, 1e-9)
            wave_N = wave_N * np.float32(gain)
            if bank is not None and self.room is not None:
                wave_N = bank.reverberate(np.pad(wave_N, (0, self._tail)), self.room, turn.speaker)
            recent[index] = wave_N
            while len(recent) > RECENT_TURNS:
                recent.popitem(last=False)
        recent.move_to_end(index)
        return recent[index]

    def _noise(self, start: int, stop: int) -> Wave:
        """The noise of samples ``[start, stop)``: the clips one after another, each at the same level."""
        noise_N, store = np.zeros(stop - start, np.float32), self.simulator.noise
        if self.snr_db is None or store is None:
            return noise_N
        level = 10 ** ((LEVEL_DB - self.snr_db) / 20)
        at = 0
        for number in self.clips:
            clip = self.simulator.clips[number]
            length = store.length(clip)
            first, last = max(start, at), min(stop, at + length)
            if last > first:
                wave_N = store.read(clip, 0, length)
                wave_N *= np.float32(level / max(power(wave_N) ** 0.5, 1e-9))
                noise_N[first - start : last - start] = wave_N[first - at : last - at]
            at += length
        return noise_N

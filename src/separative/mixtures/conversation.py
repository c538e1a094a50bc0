"""Simulated conversations: speakers who take turns, pause, fall into each other's speech and agree aloud.

A conversation is planned whole (who speaks when, from which utterances) and rendered by stretches, so that
hours of it need the memory of seconds. Like a mixture it is a pure function of corpus, configuration, seed
and number.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator

from separative import audio
from separative.corpora.manifest import Corpus
from separative.corpora.store import FRAMES_PER_SECOND, WaveStore
from separative.errors import CorpusError
from separative.files import write_json
from separative.mixtures.config import RT60, MixtureConfig, Range, Share, Stage
from separative.mixtures.gains import power
from separative.mixtures.rooms import JUDGED, RoomBank
from separative.mixtures.sources import SourcePool, cut
from separative.rttm import Turn, turns_of, write_rttm
from separative.types import Progress, Wave

# First keys of random streams; those of a Mixer are 1 to 3.
PLAN, TURN = 11, 12
# Root mean square of a speaker at 0 dB: leaves loud syllables of several speakers 28 dB.
LEVEL_DB = -28.0
BLOCK_SECONDS = 30.0
# A turn may overlap the next by no more than half of the shorter one: never three at once by turn-taking.
MOST_OVERLAP = 0.49
BACKCHANNEL_SECONDS = (0.4, 0.9)


class ConversationConfig(BaseModel):
    """What conversations are drawn.

    Attributes:
        rate: hertz.
        seconds: length.
        speakers: how many, all of one corpus.
        overlap: time in which turns overlap over time in which anybody has the turn.
        turn_seconds: lengths of turns, log-uniform.
        pause_seconds: mean pause between turns that do not overlap; exponential.
        backchannels: of all turns, the share in which another speaker says something short.
        level_db: of a speaker over the others, uniform.
        snr_db: speech over noise, uniform, for the whole conversation; None for none.
        rooms: simulated rooms (extra ``rooms``) of which a conversation has one, each speaker at a place of
            their own; 0 for none. ``rt60`` is their reverberation time in seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: int = Field(default=16000, ge=4000)
    seconds: float = Field(default=600.0, ge=5.0)
    speakers: int = Field(default=3, ge=1, le=8)
    overlap: Share = 0.2
    turn_seconds: Range = (0.8, 8.0)
    pause_seconds: float = Field(default=0.5, ge=0.0)
    backchannels: Share = 0.1
    level_db: Range = (-3.0, 3.0)
    snr_db: Range | None = None
    rooms: int = Field(default=0, ge=0)
    rt60: RT60 = (0.3, 0.6)

    @field_validator("turn_seconds")
    @classmethod
    def _of_some_length(cls, turn_seconds: Range) -> Range:
        if turn_seconds[0] < 0.1:
            raise ValueError("turns last 0.1 seconds or more")
        return turn_seconds

    @field_validator("overlap")
    @classmethod
    def _possible(cls, overlap: float) -> float:
        if overlap > 0.7:
            raise ValueError("overlap is a share of the time with speech, at most 0.7")
        return overlap


@dataclass(frozen=True, slots=True)
class Place:
    """One turn: who (number in the conversation), from which sample, and how many."""

    speaker: int
    start: int
    samples: int

    @property
    def end(self) -> int:
        return self.start + self.samples


class Conversations:
    """Draws conversations from a corpus.

    Args:
        corpus: labelled speech.
        config: what to draw.
        seed: of everything random, not negative.
        noise: noise clips; needed where the configuration asks for noise.
        cache: folder for decoded audio and rooms.
        progress: called with (done, total) while decoding.

    Raises:
        CorpusError: no corpus in it has enough speakers, or no noise where it is asked for.
        MissingExtraError: a room is asked for and pyroomacoustics is not installed.
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
        alone = MixtureConfig(
            rate=config.rate, streams=1, batch=1, unlabelled="drop", stages=(Stage(speakers=(1.0,)),)
        )
        self.voices = SourcePool.of(corpus, alone, self.store)
        by_corpus: dict[str, list[int]] = {}
        for voice, utterances in enumerate(self.voices.utterances):
            by_corpus.setdefault(utterances[0].corpus, []).append(voice)
        self.pools = [pool for pool in by_corpus.values() if len(pool) >= config.speakers]
        if not self.pools:
            most = max(len(pool) for pool in by_corpus.values())
            raise CorpusError(f"a conversation of {config.speakers} speakers of one corpus: there are {most}")
        self.noise = None if noise is None else WaveStore(noise, config.rate, cache, progress)
        self.clips = tuple(clip for clip in noise or () if self.noise and self.noise.length(clip))
        if config.snr_db is not None and not self.clips:
            raise CorpusError("snr_db asks for noise, but there are no noise clips: name some")
        self.bank = None
        if config.rooms:
            self.bank = RoomBank.load(config.rate, config.rt60, config.rooms, 8, JUDGED + seed, cache)

    def conversation(self, number: int) -> Conversation:
        """Conversation ``number`` of the endless row of them."""
        rng = np.random.default_rng([self.seed, PLAN, number])
        config = self.config
        sizes = np.array([len(pool) for pool in self.pools])
        pool = self.pools[int(rng.choice(len(sizes), p=sizes / sizes.sum()))]
        voices = tuple(int(v) for v in rng.choice(pool, config.speakers, replace=False))
        spoken = [sum(self.store.length(u) for u in self.voices.utterances[v]) for v in voices]
        turns = _plan(rng, config, np.array(spoken) / config.rate)
        gains = 10 ** ((LEVEL_DB + rng.uniform(*config.level_db, config.speakers)) / 20)
        room = None
        if self.bank is not None:
            room = int(rng.integers(len(self.bank.response_RPL)))
        snr_db = None if config.snr_db is None else float(rng.uniform(*config.snr_db))
        clips: list[int] = []
        if snr_db is not None and self.noise is not None:
            left = config.seconds * config.rate
            while left > 0:
                clips.append(int(rng.integers(len(self.clips))))
                left -= self.noise.length(self.clips[clips[-1]])
        return Conversation(self, number, voices, tuple(turns), tuple(gains.tolist()), room, snr_db, clips)


@dataclass(frozen=True)
class Conversation:
    """A planned conversation; ``room`` and ``snr_db`` None for none.

    ``voices`` are the speakers' numbers in the corpus, ``turns`` are by start, ``gains`` linear by speaker.
    """

    source: Conversations
    number: int
    voices: tuple[int, ...]
    turns: tuple[Place, ...]
    gains: tuple[float, ...]
    room: int | None
    snr_db: float | None
    clips: list[int]
    # Turns heard lately: stretches are asked for in order.
    _recent: OrderedDict[int, Wave] = field(
        default_factory=OrderedDict, init=False, repr=False, compare=False
    )

    @property
    def rate(self) -> int:
        """Hertz."""
        return self.source.config.rate

    @property
    def samples(self) -> int:
        return round(self.source.config.seconds * self.rate)

    @property
    def names(self) -> tuple[str, ...]:
        """SpeakerBootstrap' names in the corpus."""
        return tuple(self.source.voices.names[voice] for voice in self.voices)

    @property
    def overlap(self) -> float:
        """Time in which turns overlap over time in which anybody has the turn, as planned."""
        hop = self.rate // FRAMES_PER_SECOND
        count_T = np.zeros(self.samples // hop + 1, np.int16)
        for turn in self.turns:
            count_T[turn.start // hop : turn.end // hop] += 1
        return float((count_T > 1).sum() / max(1, (count_T > 0).sum()))

    def speech(self) -> list[Turn]:
        """Who speaks when: where the recordings that turns were cut from hold speech, pauses left out."""
        hop = self.rate // FRAMES_PER_SECOND
        active_KT = np.zeros((len(self.voices), self.samples // hop + 1), bool)
        for index, turn in enumerate(self.turns):
            _, pieces = self._cut(index)
            at = turn.start
            for utterance, start, count in pieces:
                frames_T = self.source.store.active(utterance, start, count)
                first = at // hop
                active_KT[turn.speaker, first : first + len(frames_T)] |= frames_T[
                    : active_KT.shape[1] - first
                ]
                at += count
        return turns_of(active_KT, self.names, hop / self.rate)

    def render(self, start: int, stop: int) -> tuple[Wave, Wave]:
        """Samples ``[start, stop)``: the mixture [N] and what each speaker adds to it [K,N]."""
        source_KN = np.zeros((len(self.voices), stop - start), np.float32)
        for index, turn in enumerate(self.turns):
            if turn.start >= stop or turn.end + self._tail <= start:
                continue
            wave_N = self._turn(index)
            first, last = max(start, turn.start), min(stop, turn.start + len(wave_N))
            if last > first:
                source_KN[turn.speaker, first - start : last - start] += wave_N[
                    first - turn.start : last - turn.start
                ]
        return source_KN.sum(0) + self._noise(start, stop), source_KN

    def write(self, folder: str | Path, stem: str, *, progress: Progress | None = None) -> Path:
        """Write ``<stem>.wav`` (16 bit), ``.rttm`` (who speaks when) and ``.json``; returns the sound's path.

        Raises:
            AudioError: the sound cannot be written.
        """
        folder = Path(folder)
        block = round(BLOCK_SECONDS * self.rate)
        path = folder / f"{stem}.wav"
        with audio.writing(path, self.rate) as put:
            for start in range(0, self.samples, block):
                put(self.render(start, min(start + block, self.samples))[0])
                if progress is not None:
                    progress(min(start + block, self.samples), self.samples)
        write_rttm(folder / f"{stem}.rttm", stem, self.speech())
        write_json(folder / f"{stem}.json", self.describe())
        return path

    def describe(self) -> dict[str, Any]:
        room = None if self.room is None or self.source.bank is None else self.source.bank.describe(self.room)
        return {
            "number": self.number,
            "seed": self.source.seed,
            "speakers": list(self.names),
            "overlap": round(self.overlap, 4),
            "turns": len(self.turns),
            "snr_db": self.snr_db,
            "room": room,
            "config": self.source.config.model_dump(mode="json"),
        }

    @property
    def _tail(self) -> int:
        bank = self.source.bank
        return 0 if bank is None else bank.response_RPL.shape[-1]

    def _cut(self, index: int) -> tuple[Wave, list[tuple[Any, int, int]]]:
        """The speech of a turn and the stretches of utterances that it was cut from."""
        source, turn = self.source, self.turns[index]
        rng = np.random.default_rng([source.seed, TURN, self.number, index])
        utterances = source.voices.utterances[self.voices[turn.speaker]]
        order = rng.permutation(len(utterances))
        wave_N, pieces = cut(source.store, utterances, order, turn.samples, 1.0, 0.5, rng)
        by_id = {utterance.id: utterance for utterance in utterances}
        return wave_N, [(by_id[p["utterance"]], p["start"], p["samples"]) for p in pieces]

    def _turn(self, index: int) -> Wave:
        recent = self._recent
        if index not in recent:
            turn, bank = self.turns[index], self.source.bank
            wave_N, _ = self._cut(index)
            gain = self.gains[turn.speaker] / max(power(wave_N) ** 0.5, 1e-9)
            wave_N = wave_N * np.float32(gain)
            if bank is not None and self.room is not None:
                wave_N = bank.reverberate(np.pad(wave_N, (0, self._tail)), self.room, turn.speaker)
            recent[index] = wave_N
            while len(recent) > 8:
                recent.popitem(last=False)
        recent.move_to_end(index)
        return recent[index]

    def _noise(self, start: int, stop: int) -> Wave:
        noise_N, store = np.zeros(stop - start, np.float32), self.source.noise
        if self.snr_db is None or store is None:
            return noise_N
        level = 10 ** ((LEVEL_DB - self.snr_db) / 20)
        at = 0
        for number in self.clips:
            clip = self.source.clips[number]
            length = store.length(clip)
            first, last = max(start, at), min(stop, at + length)
            if last > first:
                wave_N = store.read(clip, 0, length)
                wave_N *= np.float32(level / max(power(wave_N) ** 0.5, 1e-9))
                noise_N[first - start : last - start] = wave_N[first - at : last - at]
            at += length
        return noise_N


def _plan(
    rng: np.random.Generator, config: ConversationConfig, spoken_K: npt.NDArray[np.float64]
) -> list[Place]:
    """Lengths and speakers of turns first, then overlaps that add up to what is asked, then pauses."""
    low, high = np.log(config.turn_seconds)
    chatty_K = rng.dirichlet(np.full(config.speakers, 3.0))
    speakers: list[int] = []
    lengths: list[float] = []
    # Enough for the whole time even if every turn overlaps as much as it may.
    while sum(lengths) * (1 - MOST_OVERLAP) < config.seconds:
        share_K = chatty_K.copy()
        if speakers and config.speakers > 1:
            share_K[speakers[-1]] = 0.0
        speaker = int(rng.choice(config.speakers, p=share_K / share_K.sum()))
        speakers.append(speaker)
        lengths.append(min(float(np.exp(rng.uniform(low, high))), 0.9 * float(spoken_K[speaker])))
    length_I = np.array(lengths)
    # A word of agreement falls into the middle of a turn that is long enough for it.
    short_I = rng.uniform(*BACKCHANNEL_SECONDS, len(lengths))
    short_I[(rng.random(len(lengths)) >= config.backchannels) | (length_I < 3 * short_I)] = 0.0
    if config.speakers == 1:
        short_I[:] = 0.0
    gaps = _gaps(rng, config, length_I, float(short_I.sum()))
    turns: list[Place] = []
    at = float(rng.exponential(config.pause_seconds))
    for index, (speaker, length) in enumerate(zip(speakers, lengths, strict=True)):
        if at + length > config.seconds:
            break
        turns.append(_place(config, speaker, at, length))
        if short_I[index]:
            other = int(rng.choice([k for k in range(config.speakers) if k != speaker]))
            start = at + float(rng.uniform(0.3, 0.6)) * length
            turns.append(_place(config, other, start, float(short_I[index])))
        at += length + float(gaps[index])
    return sorted(turns, key=lambda turn: turn.start)


def _place(config: ConversationConfig, speaker: int, start: float, seconds: float) -> Place:
    return Place(speaker, round(start * config.rate), round(seconds * config.rate))


def _gaps(
    rng: np.random.Generator, config: ConversationConfig, length_I: npt.NDArray[np.float64], inside: float
) -> npt.NDArray[np.float64]:
    """Seconds from the end of each turn to the start of the next; below 0 where they overlap.

    With turns of D seconds in all and O of them overlapping, O / (D − O) is asked for: O = D r / (1 + r).
    """
    pause_I = rng.exponential(config.pause_seconds, len(length_I))
    if config.speakers == 1:
        return pause_I + 0.1
    room_I = np.array([MOST_OVERLAP * min(a, b) for a, b in pairwise(length_I)] + [0.0])
    wanted = (length_I.sum() + inside) * config.overlap / (1 + config.overlap) - inside
    use_I = rng.random(len(length_I)) < min(1.0, 0.3 + 2 * config.overlap)
    weight_I = room_I * use_I * rng.uniform(0.3, 1.0, len(length_I))
    low, high = 0.0, 10.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if np.minimum(middle * weight_I, room_I).sum() > wanted else (middle, high)
    overlap_I = np.minimum(low * weight_I, room_I)
    return np.where(overlap_I > 0.02, -overlap_I, pause_I)

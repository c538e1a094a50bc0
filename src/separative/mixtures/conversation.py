"""Simulated conversations: speakers take turns, pause, interrupt each other and give backchannels.

A conversation is planned as a whole (who speaks when, from which utterances) and rendered in blocks, so that
hours of it need little memory. Like a mixture, it is a pure function of corpus, configuration, seed and
number.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from separative import audio
from separative.corpora.decoded import FRAMES_PER_SECOND
from separative.files import write_json
from separative.mixtures.channel import Channel
from separative.mixtures.gains import power
from separative.mixtures.phrases import Phrase, cut_phrases, make_sound, read_phrases
from separative.mixtures.scene import Scene
from separative.mixtures.sources import crop_speech
from separative.mixtures.turn_taking import ConversationPlan
from separative.mixtures.turns import PlannedTurn
from separative.mixtures.voices import even_spectra, long_term_spectrum, vary_voice
from separative.rttm import MIN_PAUSE, Turn, frames_to_turns, write_rttm
from separative.types import Progress, Wave

if TYPE_CHECKING:
    from separative.mixtures.simulator import ConversationSimulator

# First key of the seed of each random stream; a Mixer uses 1 to 3, a ConversationSimulator 11.
TURN, SOUND, VOICE = 12, 13, 14
# RMS of a speaker at 0 dB relative level. It leaves 28 dB for loud syllables of several speakers.
LEVEL_DB = -28.0
BLOCK_SECONDS = 30.0
# Number of rendered turns that are kept for the next block.
RECENT_TURNS = 8
# Level of breaths and laughs relative to the speech of their speaker.
SOUND_DB = {"breath": -22.0, "laugh": -6.0}


@dataclass(frozen=True)
class Conversation:
    """A planned conversation between K speakers.

    Attributes:
        simulator: what planned it.
        number: its number.
        speakers: numbers of the speakers in the simulator's pool.
        plan: turns and other sounds; ``turn.speaker`` is an index into ``speakers``.
        gains: linear gain of each speaker.
        room: number of the room of the style ``plain``; None for no room.
        scene: room, noise and microphone of the other styles; None for ``plain``.
        snr_db: speech over noise; None for no noise.
        clips: numbers of the noise clips, one after another.

    >>> from separative import ConversationConfig, ConversationSimulator, load_corpus
    >>> config = ConversationConfig(seconds=10.0, speakers=2, turn_seconds=(0.5, 1.0))
    >>> conversation = ConversationSimulator(load_corpus("speech"), config, seed=0).conversation(0)
    >>> mixture, sources = conversation.render(0, conversation.samples)
    >>> mixture.shape, sources.shape
    ((160000,), (2, 160000))
    """

    simulator: ConversationSimulator
    number: int
    speakers: tuple[int, ...]
    plan: ConversationPlan
    gains: tuple[float, ...]
    room: int | None
    scene: Scene | None
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
    def turns(self) -> tuple[PlannedTurn, ...]:
        """All planned turns by start."""
        return self.plan.turns

    @property
    def overlap(self) -> float:
        """Time in which planned turns overlap, divided by the time covered by turns."""
        hop = self.rate // FRAMES_PER_SECOND
        count_T = np.zeros(self.samples // hop + 1, np.int16)
        for turn in self.turns:
            count_T[turn.start // hop : turn.end // hop] += 1
        return float((count_T > 1).sum() / max(1, (count_T > 0).sum()))

    def speech_turns(self) -> list[Turn]:
        """The reference for diarization: who speaks when, by the clean speech of each speaker.

        Pauses of a speaker are part of a turn if they are shorter than 0.25 s, or in a style, shorter than
        ``Style.bridge``. Breaths and laughs are not speech.
        """
        return list(self._reference)

    @cached_property
    def _reference(self) -> tuple[Turn, ...]:
        style = self.simulator.style
        hop = self.rate // FRAMES_PER_SECOND
        active_KT = np.zeros((len(self.speakers), self.samples // hop + 1), bool)
        for index, turn in enumerate(self.turns):
            for utterance, start, count, at in self._crop(index)[1]:
                frames_T = self.simulator.store.active(utterance, start, count)
                first = (turn.start + at) // hop
                row_T = active_KT[turn.speaker, first : first + len(frames_T)]
                row_T |= frames_T[: len(row_T)]
        pause = MIN_PAUSE if style is None else style.bridge
        return tuple(frames_to_turns(active_KT, self.names, hop / self.rate, min_pause=pause))

    def render(self, start: int, stop: int) -> tuple[Wave, Wave]:
        """The mixture [N] and each speaker's part of it [K,N], for samples ``[start, stop)``.

        In a style, a part is what a speaker's sound becomes in the room and in the linear parts of the
        microphone.
        """
        if self.scene is None:
            source_KN = self._sources(start, stop)
            return source_KN.sum(0) + self._noise(start, stop), source_KN
        # The microphone depends on what is before and after the block.
        first, last = start - self.scene.context, stop + self.scene.context
        other_N = self._noise(first, last) + self._sounds(first, last)
        signal = self.scene.record(self._sources(first, last), other_N, 10 ** (LEVEL_DB / 20), first)
        mix_N = signal.waveform[start - first : stop - first].copy()
        source_KN = signal.sources[:, start - first : stop - first].copy()
        for quiet, end in self.plan.muted:
            mix_N[max(quiet - start, 0) : max(end - start, 0)] = 0.0
            source_KN[:, max(quiet - start, 0) : max(end - start, 0)] = 0.0
        return mix_N, source_KN

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
            "scene": None if self.scene is None else self.scene.describe(),
            "config": self.simulator.config.model_dump(mode="json"),
        }

    def manifest_row(self, path: Path) -> dict[str, object]:
        """The row of a written conversation in a list of recordings; ``path`` is what :meth:`write` returned.

        ``speakers`` counts those who speak; they may be fewer than planned.
        """
        style = self.simulator.config.style
        return {
            "recording": path.stem,
            "path": path.name,
            "rttm": f"{path.stem}.rttm",
            "kind": f"simulated {'conversation' if style == 'plain' else style}",
            "speakers": len({turn.speaker for turn in self.speech_turns()}),
            "seconds": round(self.samples / self.rate, 3),
        }

    @property
    def _tail(self) -> int:
        """Samples of reverberation after the end of a turn."""
        if self.scene is not None:
            return self.scene.tail
        bank = self.simulator.bank
        return 0 if bank is None else bank.responses.shape[-1]

    @cached_property
    def _channels(self) -> tuple[Channel, ...]:
        """What makes the spectra of the speakers alike; empty if they stay as they are."""
        style, simulator = self.simulator.style, self.simulator
        if style is None or not style.even:
            return ()
        spoken = [simulator.pool.utterances[speaker] for speaker in self.speakers]
        return even_spectra(np.array([long_term_spectrum(simulator.store, u) for u in spoken]))

    def _sources(self, start: int, stop: int) -> Wave:
        """The speech of each speaker at the microphone [K,N]."""
        source_KN = np.zeros((len(self.speakers), stop - start), np.float32)
        for index, turn in enumerate(self.turns):
            if turn.start < stop and turn.end + self._tail > start:
                _add(source_KN[turn.speaker], self._turn(index), turn.start - start)
        return source_KN

    def _sounds(self, start: int, stop: int) -> Wave:
        """Breaths and laughs at the microphone [N]."""
        sound_N = np.zeros(stop - start, np.float32)
        for index, sound in enumerate(self.plan.sounds):
            if sound.start < stop and sound.end + self._tail > start and self.scene is not None:
                rng = np.random.default_rng([self.simulator.seed, SOUND, self.number, index])
                wave_N = make_sound(sound.kind, sound.samples, self.rate, rng)
                wave_N *= np.float32(self.gains[sound.speaker] * 10 ** (SOUND_DB[sound.kind] / 20))
                _add(sound_N, self.scene.place(wave_N, sound.speaker), sound.start - start)
        return sound_N

    def _crop(self, index: int) -> tuple[Wave, list[Phrase]]:
        """The speech of a turn, and the phrases that it consists of."""
        simulator, turn = self.simulator, self.turns[index]
        rng = np.random.default_rng([simulator.seed, TURN, self.number, index])
        utterances = simulator.pool.utterances[self.speakers[turn.speaker]]
        if simulator.style is not None:
            phrases = cut_phrases(simulator.store, utterances, turn.samples, simulator.style.breaks, rng)
            return read_phrases(simulator.store, phrases, turn.samples), phrases
        order = rng.permutation(len(utterances))
        wave_N, crops = crop_speech(simulator.store, utterances, order, turn.samples, 1.0, 0.5, rng)
        by_id = {utterance.id: utterance for utterance in utterances}
        phrases, at = [], 0
        for crop in crops:
            phrases.append(Phrase(by_id[crop["utterance"]], crop["start"], crop["samples"], at))
            at += crop["samples"]
        return wave_N, phrases

    def _turn(self, index: int) -> Wave:
        """A turn with its gain and room, from a small cache since blocks are rendered in order."""
        recent = self._recent
        if index not in recent:
            turn, bank = self.turns[index], self.simulator.bank
            wave_N, _ = self._crop(index)
            if self._channels:
                wave_N = self._channels[turn.speaker].apply(wave_N, self.rate)
            gain = self.gains[turn.speaker] / max(power(wave_N) ** 0.5, 1e-9)
            wave_N = wave_N * np.float32(gain)
            if (style := self.simulator.style) is not None:
                rng = np.random.default_rng([self.simulator.seed, VOICE, self.number, index])
                wave_N = vary_voice(wave_N, self.rate, *style.change_db, rng)
            if bank is not None and self.room is not None:
                wave_N = bank.reverberate(np.pad(wave_N, (0, self._tail)), self.room, turn.speaker)
            elif self.scene is not None:
                wave_N = self.scene.place(wave_N, turn.speaker)
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


def _add(total_N: Wave, wave_N: Wave, at: int) -> None:
    """Add a waveform to another one from sample ``at`` on, which may be negative."""
    first, last = max(0, at), min(len(total_N), at + len(wave_N))
    if last > first:
        total_N[first:last] += wave_N[first - at : last - at]

"""Drawing mixtures: every one a pure function of corpus, configuration, seed and index."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from separative.corpora.manifest import Corpus
from separative.corpora.store import WaveStore
from separative.distributed import ALONE, Processes, share_of
from separative.errors import CorpusError, SeparativeError
from separative.mixtures.batch import Batch, ConditionGroup, Mixture
from separative.mixtures.channel import Channel
from separative.mixtures.config import MixtureConfig, Range, Stage
from separative.mixtures.gains import mix_at, power
from separative.mixtures.rooms import RoomBank
from separative.mixtures.sources import SourcePool, crop_start, cut
from separative.types import Progress, Wave

if TYPE_CHECKING:
    from torch.utils.data import DataLoader


# First key of a random stream, so that no two purposes ever share one.
ORDER, GROUP, VIEW = 1, 2, 3
SPAN_FADE_SECONDS = 0.02
# Of the crop, for each speaker of a mixture in which they take turns.
TURN_SHARES = (0.3, 0.8)


@dataclass(frozen=True)
class _Plan:
    """What the views of a group must agree on: the target's utterances, and rivals and noise that differ."""

    step: int
    slot: int
    stage: Stage
    target: int
    order: npt.NDArray[np.int64]
    rivals: list[list[int]]
    clips: list[int | None]


class Mixer:
    """Draws condition groups from a corpus.

    Nothing drawn depends on what was drawn before or in which process: ``mixture(i)`` is item ``i % B`` of
    ``batch(i // B)``, always. Targets of a step are distinct; every epoch visits the identities in a new
    order. Rivals are never the target's speaker at any speed, nor each other's.

    Args:
        corpus: speech.
        config: what to draw.
        seed: of everything random, not negative.
        noise: noise clips; needed where the configuration asks for noise.
        cache: folder for decoded audio and rooms, shared by processes and runs.
        progress: called with (done, total) while decoding.

    Attributes:
        identities: names by identity number; a speaker at another speed is ``name@0.9``.

    Raises:
        CorpusError: too few speakers or identities, no noise where it is asked for, too many bad files.
        MissingExtraError: rooms are asked for and pyroomacoustics is not installed.
    """

    def __init__(
        self,
        corpus: Corpus,
        config: MixtureConfig,
        *,
        seed: int,
        noise: Corpus | None = None,
        cache: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        if seed < 0:
            raise SeparativeError(f"seed {seed}: a seed is 0 or more")
        self.config, self.seed = config, seed
        self.store = WaveStore(corpus, config.rate, cache, progress)
        self.voices = SourcePool.of(corpus, config, self.store)
        self.identities = tuple(
            name if speed == 1.0 else f"{name}@{speed:g}"
            for name in self.voices.names
            for speed in config.speeds
        )
        self._noise = None if noise is None else WaveStore(noise, config.rate, cache, progress)
        bad = self._noise.bad if self._noise else {}
        self._clips = tuple(clip for clip in noise or () if clip.path not in bad)
        if not self._clips and any(stage.noise > 0 for stage in config.stages):
            raise CorpusError(
                "the stages ask for noise, but there are no noise clips: name some, or set noise to 0"
            )
        self._bank = None
        if config.rooms > 0:
            self._bank = RoomBank.load(
                config.rate, config.rt60, config.room_count, max(4, 2 * config.streams), seed, cache
            )
        self._shuffled: tuple[tuple[int, int], npt.NDArray[np.int64]] | None = None

    def batch(self, step: int, processes: Processes = ALONE) -> Batch:
        """The B mixtures of one step; of several processes, this one's share of its condition groups."""
        groups = self.config.batch // self.config.stage(step).views
        return Batch.of([self.group(step, slot) for slot in share_of(groups, processes)], self.config.rate)

    def group(self, step: int, slot: int) -> ConditionGroup:
        """One condition group of a step: the target's V views."""
        plan = self._plan(step, slot)
        return ConditionGroup(
            plan.target, tuple(self._render(plan, view) for view in range(plan.stage.views))
        )

    def mixture(self, index: int) -> Mixture:
        """One mixture of the endless row of steps."""
        step, position = divmod(index, self.config.batch)
        slot, view = divmod(position, self.config.stage(step).views)
        return self._render(self._plan(step, slot), view)

    def targets(self, step: int) -> npt.NDArray[np.int64]:
        """The target identities of a step, by slot."""
        config = self.config
        number = max(i for i, stage in enumerate(config.stages) if stage.step <= step)
        groups = config.batch // config.stages[number].views
        # Epochs are cut into whole steps, so that targets of a step are distinct; the few that an epoch
        # leaves out are others in the next.
        steps = len(self.identities) // groups
        epoch, part = divmod(step - config.stages[number].step, steps)
        if self._shuffled is None or self._shuffled[0] != (number, epoch):
            rng = np.random.default_rng([self.seed, ORDER, number, epoch])
            self._shuffled = (number, epoch), rng.permutation(len(self.identities))
        return self._shuffled[1][part * groups : (part + 1) * groups]

    def _plan(self, step: int, slot: int) -> _Plan:
        stage = self.config.stage(step)
        rng = np.random.default_rng([self.seed, GROUP, step, slot])
        target = int(self.targets(step)[slot])
        voice = target // len(self.config.speeds)
        speakers = rng.choice(
            len(stage.speakers), size=stage.views, p=np.array(stage.speakers) / sum(stage.speakers)
        )
        noisy = rng.random(stage.views) < stage.noise
        count = len(self._clips)
        clips = rng.choice(count, size=stage.views, replace=count < stage.views) if count else noisy
        return _Plan(
            step=step,
            slot=slot,
            stage=stage,
            target=target,
            order=rng.permutation(len(self.voices.utterances[voice])),
            rivals=self._rivals(rng, voice, speakers.tolist()),
            clips=[int(clip) if use else None for clip, use in zip(clips, noisy, strict=True)],
        )

    def _rivals(self, rng: np.random.Generator, voice: int, counts: list[int]) -> list[list[int]]:
        """Voices that interfere in each view, all different where there are enough; -1-u is unlabelled u."""
        others, total = len(self.voices.names) - 1, sum(counts)
        if total <= others:
            drawn = rng.choice(others, total, replace=False)
        else:
            drawn = np.concatenate([rng.choice(others, n, replace=False) for n in counts])
        rivals = []
        for row in np.split(drawn, np.cumsum(counts)[:-1]):
            chosen = [int(rival + (rival >= voice)) for rival in row]
            # One at most: two unlabelled recordings could be the same speaker.
            if chosen and rng.random() < self.voices.unlabelled_share:
                chosen[0] = -1 - int(rng.integers(len(self.voices.unlabelled)))
            rivals.append(chosen)
        return rivals

    def _render(self, plan: _Plan, view: int) -> Mixture:
        config, size = self.config, self.config.samples
        rng = np.random.default_rng([self.seed, VIEW, plan.step, plan.slot, view])
        room = int(rng.integers(config.room_count)) if self._bank and rng.random() < config.rooms else None
        places = rng.permutation(self._bank.positions) if self._bank and room is not None else None
        voice, speed = divmod(plan.target, len(config.speeds))
        # The views take turns in the target's utterances, so that no two views share one if there are enough.
        turn = np.argsort((np.arange(len(plan.order)) - view) % plan.stage.views, kind="stable")
        waves: list[Wave] = []
        infos: list[dict[str, Any]] = []
        covers = config.overlap
        # Nothing is drawn for what is not asked for, so that other mixtures stay as they were.
        taking_turns = bool(plan.rivals[view]) and config.turns > 0 and rng.random() < config.turns
        if taking_turns:
            covers = TURN_SHARES
        for rival in [voice, *plan.rivals[view]]:
            if not waves:
                order, span = plan.order[turn], self._span(rng, covers) if taking_turns else (0, size)
            else:
                span = self._span(rng, covers)
                speed, order = self._rival(rng, rival)
            wave_N, info = self._source(rng, rival, speed, order, span)
            if self._bank and room is not None and places is not None:
                wave_N = self._bank.reverberate(wave_N, room, int(places[len(waves)]))
            waves.append(wave_N)
            infos.append(info)
        noise_N, noise_info = self._noise_crop(rng, plan.clips[view])
        sirs = [float(rng.uniform(*config.sir_db)) for _ in waves[1:]]
        snr_db, level_db = float(rng.uniform(*config.snr_db)), float(rng.uniform(*config.level_db))
        mixed = mix_at(waves[0], waves[1:], sirs, noise_N, snr_db, [info["span"] for info in infos])
        gain = 10.0 ** (level_db / 20.0) / power(mixed.mix_N) ** 0.5
        source_CN = np.zeros((config.streams, size), np.float32)
        source_CN[: len(waves)] = mixed.source_CN * np.float32(gain)
        noise_N = mixed.noise_N * np.float32(gain)
        for info, own, sir_db in zip(infos, mixed.gains, [None, *sirs], strict=True):
            info |= {"gain": own * gain, "sir_db": sir_db}
        if noise_info is not None:
            noise_info |= {"gain": mixed.noise_gain * gain, "snr_db": snr_db}
        identity = [info["identity"] for info in infos]
        return Mixture(
            mix_N=source_CN.sum(axis=0) + noise_N,
            source_CN=source_CN,
            noise_N=noise_N,
            identity_C=tuple(identity + [-1] * (config.streams - len(identity))),
            info={
                "index": plan.step * config.batch + plan.slot * plan.stage.views + view,
                "step": plan.step,
                "slot": plan.slot,
                "view": view,
                "seed": self.seed,
                "rate": config.rate,
                "level_db": level_db,
                "sources": infos,
                "noise": noise_info,
                "room": None if self._bank is None or room is None else self._bank.describe(room),
            },
        )

    def _span(self, rng: np.random.Generator, shares: Range) -> tuple[int, int]:
        """Where in the crop a speaker speaks."""
        size = self.config.samples
        length = round(float(rng.uniform(*shares)) * size)
        start = int(rng.integers(size - length + 1))
        return start, start + length

    def _rival(self, rng: np.random.Generator, rival: int) -> tuple[int, npt.NDArray[np.int64]]:
        """An interferer's speed and order of utterances."""
        count = len(self.voices.utterances[rival] if rival >= 0 else self.voices.unlabelled[-1 - rival])
        return int(rng.integers(len(self.config.speeds))), rng.permutation(count)

    def _source(
        self,
        rng: np.random.Generator,
        voice: int,
        speed: int,
        order: npt.NDArray[np.int64],
        span: tuple[int, int],
    ) -> tuple[Wave, dict[str, Any]]:
        """A speaker inside ``span`` of an otherwise silent crop, before room and gain."""
        config, (start, end) = self.config, span
        utterances = self.voices.utterances[voice] if voice >= 0 else self.voices.unlabelled[-1 - voice]
        factor = config.speeds[speed]
        wave_N, pieces = cut(self.store, utterances, order, end - start, factor, config.min_speech, rng)
        channel = Channel.draw(rng, config.rate) if rng.random() < config.channel else None
        if channel is not None:
            wave_N = channel.apply(wave_N, config.rate)
        if end - start < config.samples:
            fade = np.linspace(0.0, 1.0, round(SPAN_FADE_SECONDS * config.rate), dtype=np.float32)
            wave_N[: len(fade)] *= fade
            wave_N[-len(fade) :] *= fade[::-1]
            wave_N = np.pad(wave_N, (start, config.samples - end))
        identity = voice * len(config.speeds) + speed if voice >= 0 else -1
        return wave_N, {
            "identity": identity,
            "name": self.identities[identity] if identity >= 0 else None,
            "speed": factor,
            "pieces": pieces,
            "span": span,
            "channel": None if channel is None else channel.describe(),
        }

    def _noise_crop(
        self, rng: np.random.Generator, number: int | None
    ) -> tuple[Wave | None, dict[str, Any] | None]:
        """A stretch of a noise clip, repeated if the clip is shorter; none if the clip cannot be read."""
        if number is None or self._noise is None or self._noise.length(self._clips[number]) == 0:
            return None, None
        clip, size = self._clips[number], self.config.samples
        take = min(self._noise.length(clip), size)
        start = crop_start(self._noise, clip, take, 0.0, rng)
        return np.resize(self._noise.read(clip, start, take), size), {"clip": clip.id, "start": start}


# Steps a worker draws ahead: enough to ride out a slow read, a few tens of megabytes of memory.
AHEAD = 3


class _Steps:
    """Steps ``first_step`` to ``first_step + steps`` of a mixer, by position."""

    def __init__(self, mixer: Mixer, first_step: int, steps: int, processes: Processes) -> None:
        self.mixer, self.first_step, self.steps, self.processes = mixer, first_step, steps, processes

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, position: int) -> Batch:
        return self.mixer.batch(self.first_step + position, self.processes)


def loader(
    mixer: Mixer, *, first_step: int = 0, steps: int, workers: int = 0, processes: Processes = ALONE
) -> DataLoader[Batch]:
    """Iterate over the batches of steps ``first_step`` to ``first_step + steps``, in order.

    The stream is the same for any number of ``workers`` (0 draws in this process); each worker computes with
    one thread. Of several ``processes`` each has its share of every batch.
    """
    import torch
    from torch.utils.data import DataLoader

    # Shapes: one Batch an item, so no collation. DataLoader itself gives each worker a single thread.
    return DataLoader(
        _Steps(mixer, first_step, steps, processes),  # type: ignore[arg-type]
        batch_size=None,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        # Else a new iterator would draw from the global generator, and a resumed run differ from a whole one.
        generator=torch.Generator(),
        worker_init_fn=_leave_stopping_to_the_parent,
    )


def _leave_stopping_to_the_parent(_worker: int) -> None:
    # Ctrl-C reaches every process of the group; the parent finishes its step and saves first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

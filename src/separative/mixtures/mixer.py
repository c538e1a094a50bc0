"""Draw mixtures; each is a pure function of corpus, configuration, seed and index."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from separative.corpora.manifest import Corpus
from separative.corpora.store import WaveStore
from separative.distributed import SINGLE_PROCESS, ProcessGroup, local_range
from separative.errors import CorpusError, SeparativeError
from separative.mixtures.batch import Batch, ConditionGroup, Mixture
from separative.mixtures.channel import Channel
from separative.mixtures.config import MixtureConfig, Range, Stage
from separative.mixtures.gains import mix_at, power
from separative.mixtures.rooms import RoomBank
from separative.mixtures.sources import SourcePool, crop_speech, crop_start
from separative.types import Progress, Wave

if TYPE_CHECKING:
    from torch.utils.data import DataLoader


# First key of the seed of each random stream, so that no two purposes share a stream.
ORDER, GROUP, VIEW = 1, 2, 3
SPAN_FADE_SECONDS = 0.02
# Share of the mixture that each speaker covers where speakers take turns: lowest and highest.
TURN_SHARES = (0.3, 0.8)
# Steps that each worker draws ahead: enough to bridge a slow read, at the cost of a few tens of megabytes.
PREFETCH_STEPS = 3


@dataclass(frozen=True)
class _GroupPlan:
    """What is drawn for a whole condition group, so that its views share the target and differ otherwise."""

    step: int
    number: int
    stage: Stage
    target: int
    order: npt.NDArray[np.int64]  # of the target's utterances
    interferers: list[list[int]]  # source numbers of each view
    clips: list[int | None]  # noise clip of each view


class Mixer:
    """Draws mixtures and condition groups from a corpus.

    A mixture does not depend on what was drawn before or in which process: ``mixture(i)`` is always row
    ``i % B`` of ``batch(i // B)``. The targets of a step are distinct, and every epoch visits the identities
    in a new order. The interferers of a mixture are different speakers, and never the target's speaker at
    another speed.

    Args:
        corpus: speech.
        config: what to draw.
        seed: random seed, 0 or more; the same seed gives the same mixtures.
        noise: noise clips; needed if a stage of the configuration has noise.
        cache: folder for decoded audio and rooms, which processes and runs share.
        progress: called with (done, total) while audio is decoded.

    Attributes:
        identities: name of each identity number. A speaker at another speed is called ``name@0.9``.

    Raises:
        CorpusError: too few speakers or identities, missing noise, or too many bad files.
        MissingExtraError: the configuration has rooms and pyroomacoustics is not installed.

    >>> from separative import load_corpus
    >>> config = MixtureConfig(batch=4, speeds=(0.9, 1.0))
    >>> mixer = Mixer(load_corpus("speech"), config, seed=0)
    >>> len(mixer.identities)
    8
    >>> np.array_equal(mixer.mixture(6).waveform, mixer.batch(step=1).mixtures[2])
    True
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
            raise SeparativeError(f"seed {seed}: a seed must be 0 or more")
        self.config, self.seed = config, seed
        self.store = WaveStore(corpus, config.rate, cache, progress)
        self.pool = SourcePool.from_corpus(corpus, config, self.store)
        self.identities = tuple(
            name if speed == 1.0 else f"{name}@{speed:g}"
            for name in self.pool.names
            for speed in config.speeds
        )
        self._noise = None if noise is None else WaveStore(noise, config.rate, cache, progress)
        bad = self._noise.bad if self._noise else {}
        self._clips = tuple(clip for clip in noise or () if clip.path not in bad)
        if not self._clips and any(stage.noise > 0 for stage in config.stages):
            raise CorpusError(
                "mixtures.stages contain noise, but there are no noise clips: name a noise corpus, or set "
                "noise to 0 in every stage"
            )
        self._bank = None
        if config.rooms > 0:
            self._bank = RoomBank.load(
                config.rate, config.rt60, config.room_count, max(4, 2 * config.streams), seed, cache
            )
        self._epoch_order: tuple[tuple[int, int], npt.NDArray[np.int64]] | None = None

    def batch(self, step: int, processes: ProcessGroup = SINGLE_PROCESS) -> Batch:
        """The B mixtures of a step; with several processes, this process's share of the condition groups."""
        count = self.config.batch // self.config.stage(step).views
        groups = [self.group(step, number) for number in local_range(count, processes)]
        return Batch.from_groups(groups, self.config.rate)

    def group(self, step: int, number: int) -> ConditionGroup:
        """Condition group ``number`` of a step: the V views of one target."""
        plan = self._plan(step, number)
        views = tuple(self._render(plan, view) for view in range(plan.stage.views))
        return ConditionGroup(plan.target, views)

    def mixture(self, index: int) -> Mixture:
        """Mixture ``index``, counted over all steps."""
        step, row = divmod(index, self.config.batch)
        number, view = divmod(row, self.config.stage(step).views)
        return self._render(self._plan(step, number), view)

    def targets(self, step: int) -> npt.NDArray[np.int64]:
        """Target identity of each condition group of a step."""
        config = self.config
        number = max(i for i, stage in enumerate(config.stages) if stage.step <= step)
        groups = config.batch // config.stages[number].views
        # An epoch consists of whole steps, so that the targets of a step are distinct. The few identities
        # that do not fill a step are left out, different ones in each epoch.
        steps = len(self.identities) // groups
        epoch, part = divmod(step - config.stages[number].step, steps)
        if self._epoch_order is None or self._epoch_order[0] != (number, epoch):
            rng = np.random.default_rng([self.seed, ORDER, number, epoch])
            self._epoch_order = (number, epoch), rng.permutation(len(self.identities))
        return self._epoch_order[1][part * groups : (part + 1) * groups]

    def _plan(self, step: int, number: int) -> _GroupPlan:
        stage = self.config.stage(step)
        rng = np.random.default_rng([self.seed, GROUP, step, number])
        target = int(self.targets(step)[number])
        source = target // len(self.config.speeds)
        counts = rng.choice(
            len(stage.speakers), size=stage.views, p=np.array(stage.speakers) / sum(stage.speakers)
        )
        noisy = rng.random(stage.views) < stage.noise
        count = len(self._clips)
        clips = rng.choice(count, size=stage.views, replace=count < stage.views) if count else noisy
        return _GroupPlan(
            step=step,
            number=number,
            stage=stage,
            target=target,
            order=rng.permutation(len(self.pool.utterances[source])),
            interferers=self._draw_interferers(rng, source, counts.tolist()),
            clips=[int(clip) if use else None for clip, use in zip(clips, noisy, strict=True)],
        )

    def _draw_interferers(self, rng: np.random.Generator, target: int, counts: list[int]) -> list[list[int]]:
        """Source numbers of ``counts[v]`` interferers for each view, all different if there are enough."""
        others, total = len(self.pool.names) - 1, sum(counts)
        if total <= others:
            drawn = rng.choice(others, total, replace=False)
        else:
            drawn = np.concatenate([rng.choice(others, n, replace=False) for n in counts])
        interferers = []
        for row in np.split(drawn, np.cumsum(counts)[:-1]):
            chosen = [int(source + (source >= target)) for source in row]
            # At most one per mixture is unlabelled: two unlabelled recordings could be of the same speaker.
            if chosen and rng.random() < self.pool.unlabelled_share:
                chosen[0] = -1 - int(rng.integers(len(self.pool.unlabelled)))
            interferers.append(chosen)
        return interferers

    def _render(self, plan: _GroupPlan, view: int) -> Mixture:
        """Draw and mix the signals of one view."""
        config = self.config
        rng = np.random.default_rng([self.seed, VIEW, plan.step, plan.number, view])
        room, positions = self._draw_room(rng)
        waves, sources = self._draw_sources(rng, plan, view)
        if self._bank is not None and room is not None:
            waves = [
                self._bank.reverberate(wave_N, room, int(position))
                for wave_N, position in zip(waves, positions, strict=False)
            ]
        noise_N, noise = self._draw_noise(rng, plan.clips[view])
        sirs = [float(rng.uniform(*config.sir_db)) for _ in waves[1:]]
        snr_db, level_db = float(rng.uniform(*config.snr_db)), float(rng.uniform(*config.level_db))
        mixed = mix_at(waves[0], waves[1:], sirs, noise_N, snr_db, [source["span"] for source in sources])
        gain = 10.0 ** (level_db / 20.0) / power(mixed.waveform) ** 0.5
        source_CN = np.zeros((config.streams, config.samples), np.float32)
        source_CN[: len(waves)] = mixed.sources * np.float32(gain)
        noise_N = mixed.noise * np.float32(gain)
        for source, own, sir_db in zip(sources, mixed.gains, [None, *sirs], strict=True):
            source |= {"gain": own * gain, "sir_db": sir_db}
        if noise is not None:
            noise |= {"gain": mixed.noise_gain * gain, "snr_db": snr_db}
        identities = [source["identity"] for source in sources]
        return Mixture(
            waveform=source_CN.sum(axis=0) + noise_N,
            sources=source_CN,
            noise=noise_N,
            identities=tuple(identities + [-1] * (config.streams - len(identities))),
            info={
                "index": plan.step * config.batch + plan.number * plan.stage.views + view,
                "step": plan.step,
                "group": plan.number,
                "view": view,
                "seed": self.seed,
                "rate": config.rate,
                "level_db": level_db,
                "sources": sources,
                "noise": noise,
                "room": None if self._bank is None or room is None else self._bank.describe(room),
            },
        )

    def _draw_room(self, rng: np.random.Generator) -> tuple[int | None, npt.NDArray[np.int64]]:
        """A room, or None, and its positions in random order."""
        if self._bank is None or rng.random() >= self.config.rooms:
            return None, np.empty(0, np.int64)
        return int(rng.integers(self.config.room_count)), rng.permutation(self._bank.positions)

    def _draw_sources(
        self, rng: np.random.Generator, plan: _GroupPlan, view: int
    ) -> tuple[list[Wave], list[dict[str, Any]]]:
        """Waveforms of a view's target and interferers before room and gain, and how they were made."""
        config = self.config
        target, speed = divmod(plan.target, len(config.speeds))
        interferers = plan.interferers[view]
        # The views start with different utterances of the target, if there are enough.
        turn = np.argsort((np.arange(len(plan.order)) - view) % plan.stage.views, kind="stable")
        # An option that is off draws no random numbers, so that it does not change other mixtures.
        take_turns = bool(interferers) and config.turns > 0 and rng.random() < config.turns
        shares = TURN_SHARES if take_turns else config.overlap
        span = self._draw_span(rng, shares) if take_turns else (0, config.samples)
        drawn = [self._draw_source(rng, target, speed, plan.order[turn], span)]
        for source in interferers:
            span = self._draw_span(rng, shares)
            speed = int(rng.integers(len(config.speeds)))
            order = rng.permutation(len(self.pool.utterances_of(source)))
            drawn.append(self._draw_source(rng, source, speed, order, span))
        return [wave_N for wave_N, _ in drawn], [info for _, info in drawn]

    def _draw_span(self, rng: np.random.Generator, shares: Range) -> tuple[int, int]:
        """First and last sample (exclusive) of a speaker who covers a share of the mixture in this range."""
        size = self.config.samples
        length = round(float(rng.uniform(*shares)) * size)
        start = int(rng.integers(size - length + 1))
        return start, start + length

    def _draw_source(
        self,
        rng: np.random.Generator,
        source: int,
        speed: int,
        order: npt.NDArray[np.int64],
        span: tuple[int, int],
    ) -> tuple[Wave, dict[str, Any]]:
        """Speech of a source inside ``span``, silence outside, and how it was made."""
        config, (start, end) = self.config, span
        utterances, factor = self.pool.utterances_of(source), config.speeds[speed]
        wave_N, crops = crop_speech(
            self.store, utterances, order, end - start, factor, config.min_speech, rng
        )
        channel = Channel.draw(rng, config.rate) if rng.random() < config.channel else None
        if channel is not None:
            wave_N = channel.apply(wave_N, config.rate)
        if end - start < config.samples:
            fade = np.linspace(0.0, 1.0, round(SPAN_FADE_SECONDS * config.rate), dtype=np.float32)
            wave_N[: len(fade)] *= fade
            wave_N[-len(fade) :] *= fade[::-1]
            wave_N = np.pad(wave_N, (start, config.samples - end))
        identity = source * len(config.speeds) + speed if source >= 0 else -1
        return wave_N, {
            "identity": identity,
            "name": self.identities[identity] if identity >= 0 else None,
            "speed": factor,
            "crops": crops,
            "span": span,
            "channel": None if channel is None else channel.describe(),
        }

    def _draw_noise(
        self, rng: np.random.Generator, number: int | None
    ) -> tuple[Wave | None, dict[str, Any] | None]:
        """A crop of a noise clip, repeated if the clip is shorter; None if the clip cannot be read."""
        if number is None or self._noise is None or self._noise.length(self._clips[number]) == 0:
            return None, None
        clip, size = self._clips[number], self.config.samples
        take = min(self._noise.length(clip), size)
        start = crop_start(self._noise, clip, take, 0.0, rng)
        return np.resize(self._noise.read(clip, start, take), size), {"clip": clip.id, "start": start}


def loader(
    mixer: Mixer,
    *,
    first_step: int = 0,
    steps: int,
    workers: int = 0,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> DataLoader[Batch]:
    """Iterate over the batches of ``steps`` steps from ``first_step``, in order.

    The batches do not depend on the number of workers.

    Args:
        mixer: draws the batches.
        first_step: first step to draw.
        steps: number of steps.
        workers: worker processes, each with one thread; 0 draws in the calling process.
        processes: training processes; each gets its share of every batch.

    >>> from separative import load_corpus
    >>> mixer = Mixer(load_corpus("speech"), MixtureConfig(batch=2), seed=0)
    >>> [batch.info[0]["step"] for batch in loader(mixer, first_step=5, steps=2)]
    [5, 6]
    """
    import torch
    from torch.utils.data import DataLoader

    # Every item is a whole batch, so there is no collation. DataLoader gives each worker a single thread.
    return DataLoader(
        _Steps(mixer, first_step, steps, processes),  # type: ignore[arg-type]
        batch_size=None,
        num_workers=workers,
        prefetch_factor=PREFETCH_STEPS if workers else None,
        # Without its own generator, an iterator draws from the global one, and a resumed run would differ.
        generator=torch.Generator(),
        worker_init_fn=_ignore_interrupts,
    )


class _Steps:
    """Steps ``first_step`` to ``first_step + steps`` of a mixer, by position."""

    def __init__(self, mixer: Mixer, first_step: int, steps: int, processes: ProcessGroup) -> None:
        self.mixer, self.first_step, self.steps, self.processes = mixer, first_step, steps, processes

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, position: int) -> Batch:
        return self.mixer.batch(self.first_step + position, self.processes)


def _ignore_interrupts(_worker: int) -> None:
    # Ctrl-C reaches every process of the group. The parent must finish its step and save before workers stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

"""Draw mixtures; each is a pure function of corpus, configuration, seed and index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from separative.mixtures.nuisances import Nuisances
from separative.mixtures.rooms import RoomBank
from separative.mixtures.sources import SourcePool, Span, crop_speech, crop_start, part_of_speech
from separative.names import name_at_speed
from separative.types import Progress, Wave

# Purposes of random generators. The purpose is part of the seed, so that no two share their random numbers.
ORDER, GROUP, VIEW, NUISANCE = 1, 2, 3, 4
# Fade-in and fade-out of a source that does not cover the whole mixture.
SPAN_FADE_SECONDS = 0.02
# Lowest and highest share of a mixture in which a speaker talks, if the speakers of the mixture take turns.
TURN_SHARES = (0.3, 0.8)


@dataclass(frozen=True)
class _GroupPlan:
    """The random choices for a condition group; those for one view are made in :meth:`Mixer._render`.

    All views have the same target. If possible, they have different interferers, noise clips and utterances
    of the target.
    """

    step: int
    number: int  # of the group within the step
    stage: Stage
    target: int  # identity number
    order: npt.NDArray[np.int64]  # in which the target's utterances are used
    interferers: list[list[int]]  # source numbers, for each view
    clips: list[int | None]  # number of the noise clip of each view; None for no noise


class Mixer:
    """Draws mixtures and condition groups from a corpus.

    A mixture does not depend on what was drawn before or on the process that draws it: ``mixture(i)`` is
    always row ``i % B`` of ``batch(i // B)``. The targets of a step are distinct, and every epoch uses the
    identities as targets in a new order. The interferers of a mixture are different speakers, and never the
    target's speaker at another speed.

    Args:
        corpus: speech.
        config: how mixtures are drawn.
        seed: random seed, 0 or more; the same seed gives the same mixtures.
        noise: noise clips; needed if a stage of the configuration has noise.
        cache: folder for decoded audio and rooms; processes and runs can share it.
        progress: called with (done, total) files while audio is decoded.

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
            name_at_speed(name, speed) for name in self.pool.names for speed in config.speeds
        )
        self._noise = None if noise is None else WaveStore(noise, config.rate, cache, progress)
        bad_clips = self._noise.bad if self._noise else {}
        self._clips = tuple(clip for clip in noise or () if clip.path not in bad_clips)
        if not self._clips and any(stage.noise > 0 for stage in config.stages):
            raise CorpusError(
                "mixtures.stages has noise above 0, but there are no noise clips: pass a noise corpus with "
                "readable files, or set noise to 0 in every stage"
            )
        self._bank = None
        if config.rooms > 0:
            self._bank = RoomBank.load(
                config.rate, config.rt60, config.room_count, max(4, 2 * config.streams), seed, cache
            )
        self._use_nuisances = config.empty > 0 or config.nuisances.active
        self._epoch_order: tuple[tuple[int, int], npt.NDArray[np.int64]] | None = None

    def batch(self, step: int, processes: ProcessGroup = SINGLE_PROCESS) -> Batch:
        """The B mixtures of a step, or the share of this process if there are several."""
        count = self.config.batch // self.config.stage(step).views
        groups = [self.group(step, number) for number in local_range(count, processes)]
        return Batch.from_groups(groups, self.config.rate)

    def group(self, step: int, number: int) -> ConditionGroup:
        """Condition group ``number`` of a step: the V views of one target."""
        plan = self._plan(step, number)
        views = tuple(self._render(plan, view) for view in range(plan.stage.views))
        return ConditionGroup(plan.target, views)

    def mixture(self, index: int) -> Mixture:
        """Mixture number ``index``, where step s has the mixtures s·B to s·B + B - 1."""
        step, row = divmod(index, self.config.batch)
        number, view = divmod(row, self.config.stage(step).views)
        return self._render(self._plan(step, number), view)

    def targets(self, step: int) -> npt.NDArray[np.int64]:
        """Identity number of the target of each condition group of a step."""
        config = self.config
        stage_number = max(i for i, stage in enumerate(config.stages) if stage.step <= step)
        groups = config.batch // config.stages[stage_number].views
        # An epoch has whole steps only, so that the targets of a step are distinct. The last identities of
        # its order, which would not fill a step, are left out; they differ from epoch to epoch.
        steps_per_epoch = len(self.identities) // groups
        epoch, step_in_epoch = divmod(step - config.stages[stage_number].step, steps_per_epoch)
        if self._epoch_order is None or self._epoch_order[0] != (stage_number, epoch):
            rng = np.random.default_rng([self.seed, ORDER, stage_number, epoch])
            self._epoch_order = (stage_number, epoch), rng.permutation(len(self.identities))
        return self._epoch_order[1][step_in_epoch * groups : (step_in_epoch + 1) * groups]

    def _plan(self, step: int, number: int) -> _GroupPlan:
        """Make the random choices for condition group ``number`` of a step."""
        stage = self.config.stage(step)
        rng = np.random.default_rng([self.seed, GROUP, step, number])
        target = int(self.targets(step)[number])
        target_source = target // len(self.config.speeds)
        # ``stage.speakers`` has the shares of mixtures with 0, 1, ... interferers.
        interferer_counts = rng.choice(
            len(stage.speakers), size=stage.views, p=np.array(stage.speakers) / sum(stage.speakers)
        )
        noisy = rng.random(stage.views) < stage.noise
        clip_count = len(self._clips)
        # Without clips no view is noisy, and the values of ``clips`` are not used.
        clips = rng.choice(clip_count, stage.views, clip_count < stage.views) if clip_count else noisy
        return _GroupPlan(
            step=step,
            number=number,
            stage=stage,
            target=target,
            order=rng.permutation(len(self.pool.utterances[target_source])),
            interferers=self._draw_interferers(rng, target_source, interferer_counts.tolist()),
            clips=[int(clip) if use else None for clip, use in zip(clips, noisy, strict=True)],
        )

    def _draw_interferers(
        self, rng: np.random.Generator, target_source: int, counts: list[int]
    ) -> list[list[int]]:
        """Draw ``counts[v]`` interferers for each view v; if possible, no labelled one is in two views."""
        other_count, total = len(self.pool.names) - 1, sum(counts)
        if total <= other_count:
            drawn = rng.choice(other_count, total, replace=False)
        else:
            drawn = np.concatenate([rng.choice(other_count, n, replace=False) for n in counts])
        interferers = []
        for row in np.split(drawn, np.cumsum(counts)[:-1]):
            # Skip the target's own source.
            chosen = [int(source + (source >= target_source)) for source in row]
            # At most one interferer is unlabelled: two unlabelled recordings could be of the same speaker.
            if chosen and rng.random() < self.pool.unlabelled_share:
                chosen[0] = -1 - int(rng.integers(len(self.pool.unlabelled)))
            elif chosen and self.pool.similar is not None and rng.random() < self.config.similar:
                near = int(rng.choice(self.pool.similar[target_source]))
                chosen[0] = chosen[0] if near in chosen else near
            interferers.append(chosen)
        return interferers

    def _render(self, plan: _GroupPlan, view: int) -> Mixture:
        """Draw and mix the signals of one view."""
        config = self.config
        rng = np.random.default_rng([self.seed, VIEW, plan.step, plan.number, view])
        # Nuisances have a generator of their own: everything else is drawn as without them.
        nuisance_rng = np.random.default_rng([self.seed, NUISANCE, plan.step, plan.number, view])
        nuisances = Nuisances.draw(nuisance_rng, config) if self._use_nuisances else None
        info: dict[str, Any] = {
            "index": plan.step * config.batch + plan.number * plan.stage.views + view,
            "step": plan.step,
            "group": plan.number,
            "view": view,
            "seed": self.seed,
            "rate": config.rate,
        }
        if nuisances is not None:
            info["nuisances"] = nuisances.describe()
            if nuisances.empty:
                return self._render_empty(rng, plan.clips[view], nuisances, info)
        room, positions = self._draw_room(rng)
        waves, source_infos = self._draw_sources(rng, plan, view)
        if nuisances is not None:
            waves = nuisances.arrive(waves, config.rate)
            room = room if nuisances.room is None else None
        if self._bank is not None and room is not None:
            waves = [
                self._bank.reverberate(wave_N, room, int(position))
                for wave_N, position in zip(waves, positions, strict=False)
            ]
        noise_N, noise_info = self._draw_noise(rng, plan.clips[view])
        sirs = [float(rng.uniform(*config.sir_db)) for _ in waves[1:]]
        snr_db, level_db = float(rng.uniform(*config.snr_db)), float(rng.uniform(*config.level_db))
        mixed = mix_at(waves[0], waves[1:], sirs, noise_N, snr_db, [info["span"] for info in source_infos])
        mix_N, made_CN, noise_N = mixed.waveform, mixed.sources, mixed.noise
        if nuisances is not None and (nuisances.noise is not None or nuisances.babble):
            added_N = self._draw_added_noise(nuisance_rng, nuisances, plan, view)
            added_N *= np.float32((power(made_CN.sum(axis=0)) * 10.0 ** (-nuisances.noise_db / 10.0)) ** 0.5)
            mix_N, noise_N = mix_N + added_N, noise_N + added_N
        if nuisances is not None and nuisances.microphone is not None:
            level_db, speech_rms = nuisances.microphone.level_db, power(made_CN.sum(axis=0)) ** 0.5
            gain = 10.0 ** (level_db / 20.0) / speech_rms
            signal = nuisances.microphone.apply(made_CN, noise_N, speech_rms)
            made_CN, noise_N = signal.sources, signal.noise
        else:
            gain = 10.0 ** (level_db / 20.0) / power(mix_N) ** 0.5
            made_CN, noise_N = made_CN * np.float32(gain), noise_N * np.float32(gain)
        source_CN = np.zeros((config.streams, config.samples), np.float32)
        source_CN[: len(waves)] = made_CN
        for source_info, source_gain, sir_db in zip(source_infos, mixed.gains, [None, *sirs], strict=True):
            source_info |= {"gain": source_gain * gain, "sir_db": sir_db}
        if noise_info is not None:
            noise_info |= {"gain": mixed.noise_gain * gain, "snr_db": snr_db}
        identities = [source_info["identity"] for source_info in source_infos]
        return Mixture(
            waveform=source_CN.sum(axis=0) + noise_N,
            sources=source_CN,
            noise=noise_N,
            identities=tuple(identities + [-1] * (config.streams - len(identities))),
            info=info
            | {
                "level_db": level_db,
                "sources": source_infos,
                "noise": noise_info,
                "room": None if self._bank is None or room is None else self._bank.describe(room),
            },
        )

    def _render_empty(
        self, rng: np.random.Generator, clip: int | None, nuisances: Nuisances, info: dict[str, Any]
    ) -> Mixture:
        """A mixture without a speaker: a noise clip and synthetic noise, or silence."""
        config = self.config
        noise_N, noise_info = np.zeros(config.samples, np.float32), None
        level_db = float(rng.uniform(*config.level_db))
        if nuisances.noise is not None:
            noise_N += nuisances.noise.render(0, config.samples)
            clip_N, noise_info = self._draw_noise(rng, clip)
            if clip_N is not None and power(clip_N) > 0:
                noise_N += clip_N * np.float32(power(clip_N) ** -0.5)
        microphone, noise_rms = nuisances.microphone, power(noise_N) ** 0.5
        if microphone is not None:
            level_db = microphone.level_db
            rms = max(noise_rms, 1e-3) * 10.0 ** (nuisances.noise_db / 20.0)
            noise_N = microphone.apply(np.empty((0, config.samples), np.float32), noise_N, rms).waveform
        elif noise_rms > 0:
            noise_N *= np.float32(10.0 ** ((level_db - nuisances.noise_db) / 20.0) / noise_rms)
        return Mixture(
            waveform=noise_N,
            sources=np.zeros((config.streams, config.samples), np.float32),
            noise=noise_N,
            identities=(-1,) * config.streams,
            info=info | {"level_db": level_db, "sources": [], "noise": noise_info, "room": None},
        )

    def _draw_added_noise(
        self, rng: np.random.Generator, nuisances: Nuisances, plan: _GroupPlan, view: int
    ) -> Wave:
        """Synthetic noise or babble [N] of unit power. Babble is of speakers who are not in the view."""
        if nuisances.noise is not None:
            return nuisances.noise.render(0, self.config.samples)
        present = [plan.target // len(self.config.speeds), *plan.interferers[view]]
        babble_N, speakers = np.zeros(self.config.samples, np.float32), range(len(self.pool.names))
        for source in rng.permutation(np.setdiff1d(speakers, present))[: nuisances.babble].tolist():
            own = self.pool.utterances[source]
            order = rng.permutation(len(own)).tolist()
            speech_N, _ = crop_speech(self.store, own, order, len(babble_N), 1.0, 0.0, rng)
            babble_N += speech_N * np.float32(max(power(speech_N), 1e-12) ** -0.5)
        return babble_N * np.float32(max(power(babble_N), 1e-12) ** -0.5)

    def _draw_room(self, rng: np.random.Generator) -> tuple[int | None, npt.NDArray[np.int64]]:
        """Draw a room number and an order of its positions; None and an empty order for no room."""
        if self._bank is None or rng.random() >= self.config.rooms:
            return None, np.empty(0, np.int64)
        return int(rng.integers(self.config.room_count)), rng.permutation(self._bank.positions)

    def _draw_sources(
        self, rng: np.random.Generator, plan: _GroupPlan, view: int
    ) -> tuple[list[Wave], list[dict[str, Any]]]:
        """Draw the speech of the target and the interferers of a view.

        Returns a waveform, without room and gain, and a record for each of them.
        """
        config = self.config
        target_source, speed = divmod(plan.target, len(config.speeds))
        interferers = plan.interferers[view]
        # Each view starts at another place in the order, so that the views have different utterances of the
        # target if there are enough.
        turn = (np.arange(len(plan.order)) - view) % plan.stage.views
        order: Sequence[int | Span] = plan.order[np.argsort(turn, kind="stable")].tolist()
        # If ``turns`` is 0, no random number is drawn for it. The mixtures are then the same as without this
        # option.
        take_turns = bool(interferers) and config.turns > 0 and rng.random() < config.turns
        shares = TURN_SHARES if take_turns else config.overlap
        span = self._draw_span(rng, shares) if take_turns else (0, config.samples)
        if config.disjoint:
            own, need = self.pool.utterances[target_source], round(config.samples * config.speeds[speed])
            order = part_of_speech(self.store, own, plan.order, view, plan.stage.views, need) or order
        drawn = [self._draw_source(rng, target_source, speed, order, span)]
        for source in interferers:
            span = self._draw_span(rng, shares)
            speed = int(rng.integers(len(config.speeds)))
            order = rng.permutation(len(self.pool.utterances_of(source))).tolist()
            drawn.append(self._draw_source(rng, source, speed, order, span))
        return [wave_N for wave_N, _ in drawn], [info for _, info in drawn]

    def _draw_span(self, rng: np.random.Generator, shares: Range) -> tuple[int, int]:
        """Draw the span [start, end) in which a speaker talks; its share of the mixture is in ``shares``."""
        size = self.config.samples
        length = round(float(rng.uniform(*shares)) * size)
        start = int(rng.integers(size - length + 1))
        return start, start + length

    def _draw_source(
        self,
        rng: np.random.Generator,
        source: int,
        speed: int,
        order: Iterable[int | Span],
        span: tuple[int, int],
    ) -> tuple[Wave, dict[str, Any]]:
        """Draw a waveform with speech of a source inside ``span`` and silence outside, and its record.

        Args:
            rng: random generator.
            source: number of the source; negative for an unlabelled recording, see :class:`SourcePool`.
            speed: index of the playback speed in the configuration.
            order: order in which the source's utterances, or spans of them, are used.
            span: first sample, and the sample after the last.
        """
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
        """Draw a crop of noise clip ``number`` and its record; a short clip is repeated.

        Returns (None, None) for no noise or a clip that cannot be read.
        """
        if number is None or self._noise is None or self._noise.length(self._clips[number]) == 0:
            return None, None
        clip, size = self._clips[number], self.config.samples
        take = min(self._noise.length(clip), size)
        start = crop_start(self._noise, clip, take, 0.0, rng)
        return np.resize(self._noise.read(clip, start, take), size), {"clip": clip.id, "start": start}

"""Fit of a calibration by quality: sides of a trial list in many conditions, compared with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from separative.errors import SeparativeError
from separative.evaluation.conditions import mix_side, parse_condition
from separative.evaluation.trial_recordings import TrialRecordings
from separative.evaluation.trials import TrialList
from separative.inference.forward import process_batch
from separative.inference.quality import stream_qualities
from separative.inference.recording import LoadedRecording
from separative.metrics.quality import (
    QualityCalibration,
    QualityMap,
    channel_directions,
    fit_level,
    fit_map,
    pair_features,
)
from separative.types import Floats, Progress

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

REFERENCE = "clean"
QUALITY_CONDITIONS = (REFERENCE, "telephone", "opus", "overlap0", "overlap0@2", "clean@2", "noise5", "noise0")
"""Conditions of the fit, for :func:`make_pairs`."""
DIRECTIONS = 2
COHORT = 8
# Share of sides with the band of a telephone from which on a calibration covers telephone. A few dark
# recordings are not enough.
LEAST_NARROW = 0.05
# Comparisons of one corpus and pair of conditions, so that a large corpus is no slower than a small one.
MOST_PAIRS = 400

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class QualitySide:
    """A side in a condition, as the model embeds it.

    Attributes:
        side, speaker, corpus, condition: where it comes from; ``present`` are all its speakers.
        embeddings: embeddings of the audible streams [K,E], the one with most speech first.
        qualities: their qualities [K,Q].

    >>> QualitySide("a:e0", "a", "one", "clean", frozenset("a"), np.ones((1, 2)), np.zeros((1, 5))).speaker
    'a'
    """

    side: str
    speaker: str
    corpus: str
    condition: str
    present: frozenset[str]
    embeddings: Floats
    qualities: Floats


@dataclass(frozen=True)
class QualityPairs:
    """N comparisons of two sides of one corpus: the streams that match best.

    Attributes:
        left, right: embeddings [N,E].
        left_quality, right_quality: qualities [N,Q].
        targets: whether the speaker is the same [N].
        weights: weight within the class [N]; those of a corpus and pair of conditions add up to 1.
        corpus: name of the corpus [N].
        speakers: the two speakers of each comparison.

    >>> one = QualitySide("a:e0", "a", "one", "clean", frozenset("a"), np.eye(2)[:1], np.zeros((1, 5)))
    >>> pairs = make_pairs([one, replace(one, side="a:t0"), replace(one, side="b:t0", speaker="b")])
    >>> int(pairs.targets.sum()), len(pairs.take(~pairs.targets).speakers)
    (1, 0)
    """

    left: Floats
    right: Floats
    left_quality: Floats
    right_quality: Floats
    targets: Bools
    weights: Floats
    corpus: NDArray[np.str_]
    speakers: list[tuple[str, str]]

    def take(self, some: Bools) -> QualityPairs:
        """The comparisons of a mask [N]."""
        return QualityPairs(
            self.left[some],
            self.right[some],
            self.left_quality[some],
            self.right_quality[some],
            self.targets[some],
            self.weights[some],
            self.corpus[some],
            [self.speakers[i] for i in np.flatnonzero(some)],
        )


def collect_sides(
    model: SeparativeEncoder,
    trials: TrialList,
    recordings: TrialRecordings,
    conditions: Sequence[str],
    *,
    batch: int = 16,
    progress: Progress | None = None,
) -> list[QualitySide]:
    """Embed all sides of a trial list in every condition; sides without an audible stream are left out.

    Args:
        progress: called with (done, total) sides.

    >>> from separative import load_model
    >>> from separative.corpora import load_corpus
    >>> from separative.evaluation import build_trials
    >>> corpus = load_corpus("speech")
    >>> trials = build_trials(corpus, seconds=2.0, conditions=["clean"], enrolments=1, tests=1)
    >>> recordings = TrialRecordings(corpus, None, 16000, 2.0)
    >>> sides = collect_sides(load_model(), trials, recordings, ["clean", "telephone"])
    >>> {side.condition for side in sides} <= {"clean", "telephone"}
    True
    """
    wanted = [(side, name) for name in conditions for side in (*trials.enrolments, *trials.tests)]
    remaining, found, done = iter(wanted), [], 0
    while some := list(islice(remaining, batch)):
        loaded = []
        for side, name in some:
            condition = parse_condition(name)
            parts = recordings.load(
                side,
                interferers=len(condition.sir_db),
                noise=condition.snr_db is not None,
                rooms=trials.rooms if condition.room else None,
            )
            loaded.append(LoadedRecording(side.id, mix_side(parts, condition).waveform, 1, "mean"))
        for (side, name), item, recording in zip(
            some, loaded, process_batch(model, loaded, separate=False), strict=True
        ):
            if recording.speakers:
                quality = stream_qualities(recording, item.waveform)
                found.append(
                    QualitySide(
                        side.id,
                        side.speaker,
                        side.corpus,
                        name,
                        frozenset(side.speakers_present(len(parse_condition(name).sir_db))),
                        np.stack([s.embedding for s in recording.speakers]).astype(np.float64),
                        np.stack([quality[s.stream].vector() for s in recording.speakers]),
                    )
                )
        done += len(some)
        if progress is not None:
            progress(done, len(wanted))
    return found


def make_pairs(
    sides: Sequence[QualitySide],
    *,
    seed: int = 0,
    most: int = MOST_PAIRS,
    only: tuple[str, str] | None = None,
) -> QualityPairs:
    """Compare sides of REFERENCE with sides of each condition, and sides of each condition with each other.

    Sides of one corpus are compared if they share no speaker but the compared one. At most ``most``
    comparisons of each corpus, class and pair of conditions are drawn.

    Args:
        only: one pair of conditions; the first is the second or REFERENCE.

    Raises:
        SeparativeError: nothing can be compared.

    >>> one = QualitySide("a:e0", "a", "one", "clean", frozenset("a"), np.eye(2)[:1], np.zeros((1, 5)))
    >>> two = QualitySide("b:t0", "b", "one", "clean", frozenset("b"), np.eye(2)[1:], np.zeros((1, 5)))
    >>> make_pairs([one, two]).speakers
    [('a', 'b')]
    """
    rng, parts = np.random.default_rng(seed), []
    groups: dict[tuple[str, str], list[QualitySide]] = {}
    for side in sides:
        groups.setdefault((side.corpus, side.condition), []).append(side)
    for (corpus, condition), own in groups.items():
        for reference in dict.fromkeys((REFERENCE, condition)):
            if only is not None and only != (reference, condition):
                continue
            others = groups.get((corpus, reference), [])
            found = [
                (a, b)
                for i, a in enumerate(others)
                for b in (own[i + 1 :] if reference == condition else own)
                if a.side != b.side and a.present & b.present == {a.speaker} & {b.speaker}
            ]
            for target in (True, False):
                some = [(a, b) for a, b in found if (a.speaker == b.speaker) == target]
                if len(some) > most:
                    some = [some[i] for i in rng.choice(len(some), most, replace=False)]
                parts += [(a, b, target, 1 / len(some)) for a, b in some]
    if not parts:
        raise SeparativeError("calibration by quality: no two sides of one corpus can be compared")
    best = [_best_streams(a, b) for a, b, _, _ in parts]
    return QualityPairs(
        np.stack([a.embeddings[i] for (a, _, _, _), (i, _) in zip(parts, best, strict=True)]),
        np.stack([b.embeddings[j] for (_, b, _, _), (_, j) in zip(parts, best, strict=True)]),
        np.stack([a.qualities[i] for (a, _, _, _), (i, _) in zip(parts, best, strict=True)]),
        np.stack([b.qualities[j] for (_, b, _, _), (_, j) in zip(parts, best, strict=True)]),
        np.array([target for _, _, target, _ in parts]),
        np.array([weight for *_, weight in parts]),
        np.array([a.corpus for a, _, _, _ in parts]),
        [(a.speaker, b.speaker) for a, b, _, _ in parts],
    )


def _best_streams(a: QualitySide, b: QualitySide) -> tuple[int, int]:
    score_KL = a.embeddings @ b.embeddings.T
    first, second = np.unravel_index(int(score_KL.argmax()), score_KL.shape)
    return int(first), int(second)


def fit_qualities(sides: Sequence[QualitySide], *, seed: int = 0) -> QualityCalibration:
    """Fit a calibration by quality to sides of speakers that the model was not trained on.

    All corpora have one level, so the spread without a cohort covers how much they differ from each other.

    Raises:
        SeparativeError: too few sides, or none without interferers.

    >>> rng = np.random.default_rng(0)
    >>> sides = [
    ...     QualitySide(f"{s}:{t}", s, "one", "clean", frozenset(s), rng.normal(size=(1, 4)), np.ones((1, 5)))
    ...     for s in "abcde" for t in range(2)
    ... ]
    >>> fit_qualities(sides).cohort_size
    8
    """
    alone = [s for s in sides if len(s.present) == 1]
    if not alone:
        raise SeparativeError(
            "calibration by quality needs sides with speech and without interferers; add the condition"
            " 'clean'"
        )
    directions_RE = channel_directions(
        np.stack([s.embeddings[0] for s in alone]),
        [s.speaker for s in alone],
        [s.condition for s in alone],
        DIRECTIONS,
    )
    empty = QualityMap(0.0, (), (), (), ())
    bare = QualityCalibration(tuple(map(tuple, directions_RE.tolist())), (), (), (), empty, None, 0, True)
    pairs = make_pairs(sides, seed=seed)
    score_N = np.sum(bare.project(pairs.left) * bare.project(pairs.right), axis=1)
    feature_NF = pair_features(pairs.left_quality, pairs.right_quality)

    other_N = ~pairs.targets
    level_F = fit_level(score_N[other_N], feature_NF[other_N], pairs.weights[other_N])
    above_N = score_N - feature_NF @ level_F
    alone_map = fit_map(above_N, feature_NF, pairs.targets, pairs.weights)
    partial = replace(
        bare,
        low=tuple(feature_NF.min(axis=0).tolist()),
        high=tuple(feature_NF.max(axis=0).tolist()),
        level=tuple(level_F.tolist()),
        alone=alone_map,
    )
    shift_N = cohort_shifts(partial, pairs, sides, seed=seed)
    cohort_map, known_N = None, np.isfinite(shift_N)
    if known_N.any() and (pairs.targets & known_N).any() and (~pairs.targets & known_N).any():
        cohort_map = fit_map(
            (above_N - shift_N)[known_N], feature_NF[known_N], pairs.targets[known_N], pairs.weights[known_N]
        )
    return replace(
        partial,
        cohort=cohort_map,
        cohort_size=COHORT if cohort_map else 0,
        narrow=float(np.mean([side.qualities[0, 4] for side in sides])) >= LEAST_NARROW,
    )


def cohort_shifts(
    calibration: QualityCalibration,
    pairs: QualityPairs,
    sides: Sequence[QualitySide],
    *,
    size: int = COHORT,
    seed: int = 0,
) -> Floats:
    """Shift of the level [N] that cohorts of ``size`` other speakers of the same corpus measure; else NaN.

    A cohort has one side of REFERENCE of each speaker. Comparisons with fewer than two others have NaN.

    >>> rng = np.random.default_rng(0)
    >>> sides = [
    ...     QualitySide(f"{s}:{t}", s, "one", "clean", frozenset(s), rng.normal(size=(1, 4)), np.ones((1, 5)))
    ...     for s in "abcde" for t in range(2)
    ... ]
    >>> bool(np.isfinite(cohort_shifts(fit_qualities(sides), make_pairs(sides), sides)).all())
    True
    """
    rng = np.random.default_rng(seed)
    members: dict[str, dict[str, QualitySide]] = {}
    for side in sides:
        if side.condition == REFERENCE:
            members.setdefault(side.corpus, {}).setdefault(side.speaker, side)
    shift_N = np.full(len(pairs.targets), np.nan)
    for corpus, by_speaker in members.items():
        names = np.array(list(by_speaker))
        member_ME = calibration.project(np.stack([s.embeddings[0] for s in by_speaker.values()]))
        member_MQ = np.stack([s.qualities[0] for s in by_speaker.values()])
        for n in np.flatnonzero(pairs.corpus == corpus):
            others = rng.permutation(np.flatnonzero(~np.isin(names, pairs.speakers[n])))[:size]
            if len(others) >= 2:
                both = ((pairs.left, pairs.left_quality), (pairs.right, pairs.right_quality))
                shift_N[n] = np.mean(
                    [calibration.shift(e[n], q[n], member_ME[others], member_MQ[others]) for e, q in both]
                )
    return shift_N

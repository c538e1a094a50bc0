"""Result rows of verification and identification: error rates, costs and calibrated costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from separative.evaluation.bootstrap import (
    Indices,
    Mask,
    SpeakerBootstrap,
    assign_folds,
    bootstrap_interval,
    held_out_llr,
)
from separative.evaluation.results import POOLED, Row
from separative.evaluation.trials import TrialList
from separative.metrics import Roc
from separative.types import Floats

RANKS = (1, 5)
FALSE_ACCEPTS = 0.01
P_TARGETS = (0.01, 0.05)
DIFFERENCE = "EER difference"
# Number of trial weights held in memory at once: 128 MB.
MAX_WEIGHTS = 2**24

Figures = dict[str, tuple[float, Floats]]
"""By metric, its value and its value in every resample."""


@dataclass(frozen=True)
class ConditionTrials:
    """The N trials of one condition.

    Attributes:
        left, right: row and column of each trial in a score matrix [L, R].
        left_speaker, right_speaker: positions of the compared speakers.
        corpus: name of the corpus of each trial.

    >>> one = np.array([0, 1])
    >>> ConditionTrials(one, one, one, np.array([0, 0]), np.array(["a", "b"])).target
    array([ True, False])
    """

    left: Indices
    right: Indices
    left_speaker: Indices
    right_speaker: Indices
    corpus: NDArray[np.str_]

    @property
    def target(self) -> Mask:
        """Which trials compare a speaker with the same speaker, boolean [N]."""
        return np.equal(self.left_speaker, self.right_speaker)

    def within(self, corpus: str) -> ConditionTrials:
        """The trials within one corpus, or all trials for ``all``."""
        keep_N = (self.corpus == corpus) | (corpus == POOLED)
        return ConditionTrials(
            self.left[keep_N],
            self.right[keep_N],
            self.left_speaker[keep_N],
            self.right_speaker[keep_N],
            self.corpus[keep_N],
        )


@dataclass(frozen=True)
class EnrolmentGroups:
    """What the L rows of a score matrix stand for: single enrolments, or all enrolments of a speaker.

    ``sides``: for each row, positions in the trial list's enrolments.

    >>> EnrolmentGroups(((0,), (1,), (2,))).sides[2]
    (2,)
    """

    sides: tuple[tuple[int, ...], ...]

    @staticmethod
    def single(trials: TrialList) -> EnrolmentGroups:
        """One row for each enrolment."""
        return EnrolmentGroups(tuple((i,) for i in range(len(trials.enrolments))))

    @staticmethod
    def by_speaker(trials: TrialList) -> EnrolmentGroups:
        """One row for each speaker with at least two enrolments."""
        sides: dict[str, list[int]] = {}
        for i, side in enumerate(trials.enrolments):
            sides.setdefault(side.speaker, []).append(i)
        return EnrolmentGroups(tuple(tuple(group) for group in sides.values() if len(group) > 1))

    def allowed(self, trials: TrialList, condition: str) -> Mask:
        """Which pairs [L, R] are trials: those where each single enrolment has a trial with the test side."""
        left_at = {side.id: i for i, side in enumerate(trials.enrolments)}
        right_at = {side.id: i for i, side in enumerate(trials.tests)}
        pairs = [(left_at[t.enrolment], right_at[t.test]) for t in trials.trials if t.condition == condition]
        single_LR = np.zeros((len(left_at), len(right_at)), bool)
        single_LR[tuple(np.array(pairs).T)] = True
        return np.stack([single_LR[list(group)].all(0) for group in self.sides])

    def trials(self, trials: TrialList, condition: str, speakers: SpeakerBootstrap) -> ConditionTrials:
        """The trials of one condition, as positions."""
        left_N, right_N = np.nonzero(self.allowed(trials, condition))
        first = [trials.enrolments[group[0]] for group in self.sides]
        left_speaker = speakers.indices([side.speaker for side in first])
        right_speaker = speakers.indices([side.speaker for side in trials.tests])
        corpus = np.array([side.corpus for side in first])
        return ConditionTrials(left_N, right_N, left_speaker[left_N], right_speaker[right_N], corpus[left_N])


@dataclass(frozen=True)
class ScoreMatrices:
    """The scores of one row of the tables.

    Attributes:
        model: name of the row.
        enrolled: what the rows of the matrices stand for.
        scores: score matrix [L, R] for every condition of the row.

    >>> scores = ScoreMatrices("csc", EnrolmentGroups(((0,),)), {"clean": np.zeros((1, 3))})
    >>> scores.scores["clean"].shape
    (1, 3)
    """

    model: str
    enrolled: EnrolmentGroups
    scores: Mapping[str, Floats]


def verification_rows(
    scored: Sequence[ScoreMatrices],
    trials: TrialList,
    speakers: SpeakerBootstrap,
    *,
    against: str | None = None,
) -> list[Row]:
    """Rows of EER, minDCF, Cllr and minCllr over all trials, and of the EER within each corpus.

    Log-likelihood ratios come from calibrations within the condition, each fitted on trials of other speakers
    (:func:`held_out_llr`). The bootstrap does not fit them again.

    ``against``: name of a row; adds the difference of every other row's EER to that of this row, if both have
    the same trials, in the same resamples.

    >>> from separative.corpora import load_corpus
    >>> from separative.evaluation import build_trials
    >>> trials = build_trials(load_corpus("speech"), seconds=2.0, conditions=["clean"])
    >>> speakers = SpeakerBootstrap(list(trials.corpus_of), resamples=10, seed=0)
    >>> same = [[one.speaker == other.speaker for other in trials.tests] for one in trials.enrolments]
    >>> scored = ScoreMatrices("csc", EnrolmentGroups.single(trials), {"clean": np.array(same, float)})
    >>> verification_rows([scored], trials, speakers)[0].cell()
    '0.0 (0.0 to 0.0)'
    """
    corpora = list(dict.fromkeys(trials.corpus_of.values()))
    corpora = corpora if len(corpora) == 1 else [POOLED, *corpora]
    fold_P = assign_folds(trials.corpus_of, seed=trials.seed)
    rows = []
    for enrolled in dict.fromkeys(s.enrolled for s in scored):
        for condition in trials.conditions:
            systems = [s for s in scored if s.enrolled == enrolled and condition in s.scores]
            whole = enrolled.trials(trials, condition, speakers)
            for corpus in corpora:
                part = whole.within(corpus)
                if not (part.target.any() and not part.target.all()):
                    continue
                score_MN = [s.scores[condition][part.left, part.right] for s in systems]
                pooled = corpus == corpora[0]
                found = trial_figures(score_MN, part, speakers, fold_P if pooled else None)
                if pooled and against in (names := [s.model for s in systems]):
                    _add_differences(found, names.index(against))
                for system, figures in zip(systems, found, strict=True):
                    for metric, (value, value_R) in figures.items():
                        low, high = bootstrap_interval(value_R, value)
                        count = len(part.left)
                        rows.append(
                            Row(system.model, condition, metric, value, low, high, count, corpus, trials.seed)
                        )
    return rows


def trial_figures(
    scores: Sequence[Floats], part: ConditionTrials, speakers: SpeakerBootstrap, folds: Indices | None
) -> list[Figures]:
    """Compute EER (%) and, with speaker folds, minDCF and calibrated costs of M systems on the same trials.

    Args:
        scores: scores of the N trials [N], by system.
        part: the trials.
        speakers: bootstrap resamples of the P speakers.
        folds: fold of each speaker [P]; None leaves out all but the EER.

    >>> speakers = SpeakerBootstrap(["ann", "bob"], resamples=10, seed=0)
    >>> one = np.array([0, 1])
    >>> part = ConditionTrials(one, one, one, np.array([0, 0]), np.array(["a", "a"]))
    >>> trial_figures([np.array([0.9, 0.1])], part, speakers, None)[0]["EER"][0]
    0.0
    """
    score_MN, fold_P = scores, folds
    target_N = part.target
    rocs = [CondensedRoc(Roc(score_N, target_N)) for score_N in score_MN]
    llr_MN = [None] * len(rocs) if fold_P is None else [_llr(s, part, fold_P) for s in score_MN]
    llr_rocs = [None if llr_N is None else CondensedRoc(Roc(llr_N, target_N)) for llr_N in llr_MN]
    values: list[dict[str, list[Floats]]] = [{} for _ in rocs]
    for weight_RN in _weights(part, speakers):
        for one, roc, llr_N, llr_roc in zip(values, rocs, llr_MN, llr_rocs, strict=True):
            found = _metrics(roc, weight_RN, llr_N, llr_roc, target_N, costs=fold_P is not None)
            for metric, value_R in found.items():
                one.setdefault(metric, []).append(value_R)
    # The first weighting has all weights equal to one.
    joined = [{metric: np.concatenate(parts) for metric, parts in one.items()} for one in values]
    return [{metric: (float(all_R[0]), all_R[1:]) for metric, all_R in one.items()} for one in joined]


def _metrics(
    roc: CondensedRoc,
    weight_RN: Floats,
    llr_N: Floats | None,
    llr_roc: CondensedRoc | None,
    target_N: Mask,
    *,
    costs: bool,
) -> dict[str, Floats]:
    weight_RU = roc.group_weights(weight_RN)
    found = {"EER": 100 * np.array([roc.roc.eer(w) for w in weight_RU])}
    if costs:
        for p in P_TARGETS:
            found[f"minDCF{p:g}"] = np.array([roc.roc.min_dcf(p, w) for w in weight_RU])
    if llr_N is not None and llr_roc is not None:
        found["Cllr"] = _cllr(llr_N, target_N, weight_RN)
        found["minCllr"] = np.array([llr_roc.roc.min_cllr(w) for w in llr_roc.group_weights(weight_RN)])
    return found


class CondensedRoc:
    """A ROC with N trials reduced to U groups that give the same figures under any weights.

    Trials with neighbouring scores and the same class form a group. The convex hull, a detection cost and
    the pooling of violators can only change where the class changes. ``roc`` has one score per group and
    takes the summed weights of the groups.

    >>> scores, target = np.array([0.1, 0.2, 0.3, 0.4]), np.array([False, False, True, True])
    >>> condensed = CondensedRoc(Roc(scores, target))
    >>> condensed.group_weights(np.ones((1, 4)))
    array([[2., 2.]])
    """

    def __init__(self, roc: Roc) -> None:
        self.order_N = np.lexsort((roc.targets, roc.scores))
        score_N, target_N = roc.scores[self.order_N], roc.targets[self.order_N]
        new_N = np.append(True, np.diff(score_N) > 0)
        tie_N = np.cumsum(new_N) - 1
        targets_T, total_T = np.bincount(tie_N, target_N), np.bincount(tie_N)
        pure_N = ((targets_T == 0) | (targets_T == total_T))[tie_N]
        same_N = np.append(False, target_N[1:] == target_N[:-1])
        both_pure_N = np.append(False, pure_N[1:] & pure_N[:-1])
        starts_N = ~same_N | (new_N & ~both_pure_N)
        self.start_U = np.flatnonzero(starts_N)
        self.roc = Roc(np.cumsum(new_N[self.start_U]).astype(np.float64), target_N[self.start_U])

    def group_weights(self, weights: Floats) -> Floats:
        """Summed weights [R, U] of the groups, from the weights [R, N] of the trials."""
        return np.add.reduceat(weights[:, self.order_N], self.start_U, axis=1)


def _weights(part: ConditionTrials, speakers: SpeakerBootstrap) -> Iterator[Floats]:
    """Weights [R,N] of the trials: all ones, then those of the resamples, in blocks that fit in memory."""
    count = len(part.left)
    yield np.ones((1, count))
    step = max(1, MAX_WEIGHTS // count)
    for start in range(0, len(speakers.counts), step):
        resamples = slice(start, start + step)
        yield speakers.trial_weights(part.left_speaker, part.right_speaker, resamples)


def _llr(score_N: Floats, part: ConditionTrials, fold_P: Indices) -> Floats | None:
    return held_out_llr(score_N, part.target, fold_P[part.left_speaker], fold_P[part.right_speaker])


def _cllr(llr_N: Floats, target_N: Mask, weight_RN: Floats) -> Floats:
    """:func:`separative.metrics.cllr` [R] under many weightings."""
    cost_N = np.logaddexp(0, np.where(target_N, -llr_N, llr_N)) / np.log(2)
    with np.errstate(invalid="ignore"):
        halves = [
            (weight_RN[:, kind] @ cost_N[kind]) / weight_RN[:, kind].sum(1) for kind in (target_N, ~target_N)
        ]
    mean_R: Floats = (halves[0] + halves[1]) / 2
    return mean_R


def _add_differences(found: list[Figures], first: int) -> None:
    base, base_R = found[first]["EER"]
    for number, figures in enumerate(found):
        if number != first:
            value, value_R = figures["EER"]
            figures[DIFFERENCE] = (value - base, value_R - base_R)


def identification_rows(
    scored: Sequence[ScoreMatrices], trials: TrialList, speakers: SpeakerBootstrap
) -> list[Row]:
    """Rows of identification (%): the speaker is among the 1 or 5 best, or is identified in an open set.

    The gallery of a test side has the enrolled speakers of its corpus, without its interferers. The score of
    a speaker is the mean over the speaker's enrolments. Ties count against the system. In the open set, the
    true speaker must have the best score, and it must exceed the threshold that 1 % of the test sides exceed
    without their true speaker in the gallery. The bootstrap resamples the speakers of the test sides; the
    gallery does not change.

    >>> from separative.corpora import load_corpus
    >>> from separative.evaluation import build_trials
    >>> trials = build_trials(load_corpus("speech"), seconds=2.0, conditions=["clean"])
    >>> speakers = SpeakerBootstrap(list(trials.corpus_of), resamples=10, seed=0)
    >>> same = [[one.speaker == other.speaker for other in trials.tests] for one in trials.enrolments]
    >>> scored = ScoreMatrices("csc", EnrolmentGroups.single(trials), {"clean": np.array(same, float)})
    >>> [(row.metric, row.value) for row in identification_rows([scored], trials, speakers)]
    [('top-1', 100.0), ('top-5', 100.0), ('open set', 100.0)]
    """
    true_R = speakers.indices([side.speaker for side in trials.tests])
    counts_WP = np.vstack([np.ones(len(speakers.index)), speakers.counts])
    rows = []
    for system in scored:
        for condition, score_LR in system.scores.items():
            gallery_RG = _gallery(system.enrolled, score_LR, trials, condition, speakers)
            keep_R = np.isfinite(gallery_RG[np.arange(len(true_R)), true_R])
            keep_R &= np.isfinite(gallery_RG).sum(1) > 1
            if not keep_R.any():
                continue
            weight_WR = counts_WP[:, true_R[keep_R]]
            for metric, all_W in weighted_identification(
                gallery_RG[keep_R], true_R[keep_R], weight_WR
            ).items():
                value, count = float(100 * all_W[0]), int(keep_R.sum())
                low, high = bootstrap_interval(100 * all_W[1:], value)
                rows.append(
                    Row(system.model, condition, metric, value, low, high, count, trials.corpus, trials.seed)
                )
    return rows


def weighted_identification(scores: Floats, true: Indices, weights: Floats) -> dict[str, Floats]:
    """Shares ``top-1``, ``top-5`` and ``open set`` [W] of R probes, under each of W weightings.

    With whole numbers as weights, the result equals :func:`separative.metrics.identification_rates` and
    ``open_set_rate`` on that many copies of each probe.

    Args:
        scores: scores of the probes [R, G]; minus infinity where a speaker is not in a probe's gallery.
        true: column of each probe's true speaker [R].
        weights: weights [W, R].

    >>> rates = weighted_identification(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]), np.ones((1, 2)))
    >>> rates["top-1"]
    array([0.5])
    """
    probes = np.arange(len(true))
    own_R, other_RG = scores[probes, true], np.array(scores, np.float64)
    other_RG[probes, true] = -np.inf
    rank_R, impostor_R = 1 + (other_RG >= own_R[:, None]).sum(1), other_RG.max(1)
    total_W = weights.sum(1)
    with np.errstate(invalid="ignore"):
        found = {f"top-{k}": weights @ (rank_R <= k) / total_W for k in RANKS}
        # From the highest score down, the threshold is where the impostors exceed the allowed weight.
        order_R = np.argsort(-impostor_R, kind="stable")
        passed_WR = np.cumsum(weights[:, order_R], axis=1)
        allowed_W = np.floor(FALSE_ACCEPTS * total_W + 1e-9)
        threshold_W = impostor_R[order_R][(passed_WR > allowed_W[:, None]).argmax(1)]
        accepted_WR = (own_R > impostor_R) & (own_R > threshold_W[:, None])
        found["open set"] = (weights * accepted_WR).sum(1) / total_W
    return found


def _gallery(
    enrolled: EnrolmentGroups, score_LR: Floats, trials: TrialList, condition: str, speakers: SpeakerBootstrap
) -> Floats:
    """Mean score [R,P] of each test side with each speaker's enrolments; minus infinity if there are none."""
    allowed_LR = enrolled.allowed(trials, condition)
    speaker_L = speakers.indices([trials.enrolments[group[0]].speaker for group in enrolled.sides])
    member_PL = np.zeros((len(speakers.index), len(speaker_L)))
    member_PL[speaker_L, np.arange(len(speaker_L))] = 1
    count_PR = member_PL @ allowed_LR
    total_PR = member_PL @ np.where(allowed_LR, score_LR, 0.0)
    mean_PR = np.where(count_PR > 0, total_PR / np.maximum(count_PR, 1), -np.inf)
    return np.ascontiguousarray(mean_PR.T)

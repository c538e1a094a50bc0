"""Rows of verification: error rates, costs and calibrated costs, each with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from separative.evaluation.bootstrap import SpeakerBootstrap, deal_folds, held_out_llr, interval
from separative.evaluation.results import POOLED, Row
from separative.evaluation.trials import TrialList
from separative.metrics import Roc
from separative.types import Floats

RANKS = (1, 5)
FALSE_ACCEPTS = 0.01


def identification_rows(scored: Sequence[Scored], trials: TrialList, speakers: SpeakerBootstrap) -> list[Row]:
    """Share (%) of test sides whose speaker is among the 1 and 5 best, and share identified in an open set.

    The gallery of a test side are the enrolled speakers of its corpus, but for those who are heard in it as
    interferers; a speaker's score is the mean over their enrolments. Ties count against the system. In the
    open set, the own speaker must come first and above the threshold that 1 % of the test sides pass when
    their own speaker is taken out. The bootstrap draws the speakers of the test sides; the gallery stays whole.
    """
    place = trials.place
    true_R = speakers.indices([side.speaker for side in trials.tests])
    rows = []
    for one in scored:
        for condition, score_LR in one.score_LR.items():
            gallery_RG = _gallery(one.enrolled, score_LR, trials, condition, speakers)
            here_R = np.isfinite(gallery_RG[np.arange(len(true_R)), true_R])
            here_R &= np.isfinite(gallery_RG).sum(1) > 1
            if not here_R.any():
                continue
            times_RP = np.vstack([np.ones(len(speakers.index)), speakers.times_RP])
            weight_WR = times_RP[:, true_R[here_R]]
            for metric, all_W in identify(gallery_RG[here_R], true_R[here_R], weight_WR).items():
                value, count = float(100 * all_W[0]), int(here_R.sum())
                low, high = interval(100 * all_W[1:], value)
                rows.append(Row(one.model, condition, metric, value, low, high, count, place, trials.seed))
    return rows


def identify(score_RG: Floats, true_R: NDArray[np.intp], weight_WR: Floats) -> dict[str, Floats]:
    """``top-1``, ``top-5`` and ``open set`` as shares, under every weighting [W] of the R probes.

    Equal to :func:`separative.metrics.identification` and ``open_set`` where a weight is a number of copies;
    minus infinity where a speaker is not in the gallery of a probe.
    """
    probes = np.arange(len(true_R))
    own_R, other_RG = score_RG[probes, true_R], np.array(score_RG, np.float64)
    other_RG[probes, true_R] = -np.inf
    rank_R, impostor_R = 1 + (other_RG >= own_R[:, None]).sum(1), other_RG.max(1)
    total_W = weight_WR.sum(1)
    with np.errstate(invalid="ignore"):
        found = {f"top-{k}": weight_WR @ (rank_R <= k) / total_W for k in RANKS}
        # The impostor at which, from the top, more weight than allowed has been passed.
        order_R = np.argsort(-impostor_R, kind="stable")
        passed_WR = np.cumsum(weight_WR[:, order_R], axis=1)
        allowed_W = np.floor(FALSE_ACCEPTS * total_W + 1e-9)
        threshold_W = impostor_R[order_R][(passed_WR > allowed_W[:, None]).argmax(1)]
        accepted_WR = (own_R > impostor_R) & (own_R > threshold_W[:, None])
        found["open set"] = (weight_WR * accepted_WR).sum(1) / total_W
    return found


def _gallery(
    enrolled: Enrolments, score_LR: Floats, trials: TrialList, condition: str, speakers: SpeakerBootstrap
) -> Floats:
    """Mean score [R,P] of each test side with each speaker's enrolments; minus infinity without any."""
    allowed_LR = enrolled.allowed(trials, condition)
    speaker_L = speakers.indices([trials.enrolments[group[0]].speaker for group in enrolled.sides])
    member_PL = np.zeros((len(speakers.index), len(speaker_L)))
    member_PL[speaker_L, np.arange(len(speaker_L))] = 1
    count_PR = member_PL @ allowed_LR
    total_PR = member_PL @ np.where(allowed_LR, score_LR, 0.0)
    mean_PR = np.where(count_PR > 0, total_PR / np.maximum(count_PR, 1), -np.inf)
    return np.ascontiguousarray(mean_PR.T)


P_TARGETS = (0.01, 0.05)
DIFFERENCE = "EER difference"
# Weights of resamples that are held at a time: 128 MB.
MOST_WEIGHTS = 2**24


@dataclass(frozen=True)
class Comparisons:
    """The N trials of one condition: places in a score matrix [L,R], speakers by index, corpora."""

    left_N: NDArray[np.intp]
    right_N: NDArray[np.intp]
    left_speaker_N: NDArray[np.intp]
    right_speaker_N: NDArray[np.intp]
    corpus_N: NDArray[np.str_]

    @property
    def target_N(self) -> NDArray[np.bool_]:
        return np.equal(self.left_speaker_N, self.right_speaker_N)

    def within(self, corpus: str) -> Comparisons:
        here_N = (self.corpus_N == corpus) | (corpus == POOLED)
        return Comparisons(
            self.left_N[here_N],
            self.right_N[here_N],
            self.left_speaker_N[here_N],
            self.right_speaker_N[here_N],
            self.corpus_N[here_N],
        )


@dataclass(frozen=True)
class Enrolments:
    """What a score matrix has rows for: single enrolments, or speakers by all of their enrolments together.

    ``sides``: by row, places in the list's enrolments.
    """

    sides: tuple[tuple[int, ...], ...]

    @staticmethod
    def singly(trials: TrialList) -> Enrolments:
        return Enrolments(tuple((i,) for i in range(len(trials.enrolments))))

    @staticmethod
    def together(trials: TrialList) -> Enrolments:
        """Only speakers with two enrolments or more."""
        sides: dict[str, list[int]] = {}
        for i, side in enumerate(trials.enrolments):
            sides.setdefault(side.speaker, []).append(i)
        return Enrolments(tuple(tuple(group) for group in sides.values() if len(group) > 1))

    def allowed(self, trials: TrialList, condition: str) -> NDArray[np.bool_]:
        """Which pairs [L,R] are trials: those whose every single enrolment makes one with the test side."""
        left_at = {side.id: i for i, side in enumerate(trials.enrolments)}
        right_at = {side.id: i for i, side in enumerate(trials.tests)}
        pairs = [(left_at[t.enrolment], right_at[t.test]) for t in trials.trials if t.condition == condition]
        single_LR = np.zeros((len(left_at), len(right_at)), bool)
        single_LR[tuple(np.array(pairs).T)] = True
        return np.stack([single_LR[list(group)].all(0) for group in self.sides])

    def comparisons(self, trials: TrialList, condition: str, speakers: SpeakerBootstrap) -> Comparisons:
        left_N, right_N = np.nonzero(self.allowed(trials, condition))
        first = [trials.enrolments[group[0]] for group in self.sides]
        left_speaker = speakers.indices([side.speaker for side in first])
        right_speaker = speakers.indices([side.speaker for side in trials.tests])
        corpus = np.array([side.corpus for side in first])
        return Comparisons(left_N, right_N, left_speaker[left_N], right_speaker[right_N], corpus[left_N])


@dataclass(frozen=True)
class Scored:
    """A row of the table before its figures: a score matrix [L,R] for every condition that it has."""

    model: str
    enrolled: Enrolments
    score_LR: Mapping[str, Floats]


def verification_rows(
    scored: Sequence[Scored], trials: TrialList, speakers: SpeakerBootstrap, *, against: str | None = None
) -> list[Row]:
    """EER, minDCF, Cllr and minCllr over all trials, and the EER of each corpus by itself.

    Log-likelihood ratios come from calibrations within the condition, each fitted on trials of other speakers
    (:func:`held_out_llr`); the bootstrap does not fit them anew. ``against``: the row from whose EER that of
    every other row with the same trials is also told apart, in the same resamples.
    """
    corpora = list(dict.fromkeys(trials.corpus_of.values()))
    places = [corpora[0]] if len(corpora) == 1 else [POOLED, *corpora]
    fold_P = deal_folds(trials.corpus_of, seed=trials.seed)
    rows = []
    for enrolled in dict.fromkeys(s.enrolled for s in scored):
        for condition in trials.conditions:
            some = [s for s in scored if s.enrolled == enrolled and condition in s.score_LR]
            whole = enrolled.comparisons(trials, condition, speakers)
            for place in places:
                here = whole.within(place)
                if not (here.target_N.any() and not here.target_N.all()):
                    continue
                score_MN = [s.score_LR[condition][here.left_N, here.right_N] for s in some]
                pooled = place == places[0]
                found = _figures(score_MN, here, speakers, fold_P if pooled else None, pooled)
                if pooled and against in (names := [s.model for s in some]):
                    _add_differences(found, names.index(against))
                for s, figures in zip(some, found, strict=True):
                    for metric, (value, value_R) in figures.items():
                        low, high = interval(value_R, value)
                        count = len(here.left_N)
                        rows.append(
                            Row(s.model, condition, metric, value, low, high, count, place, trials.seed)
                        )
    return rows


Figures = dict[str, tuple[float, Floats]]  # by metric: its value, and that in every resample


def _figures(
    score_MN: Sequence[Floats],
    here: Comparisons,
    speakers: SpeakerBootstrap,
    fold_P: NDArray[np.intp] | None,
    costs: bool,
) -> list[Figures]:
    """EER (%) and, with ``costs``, minDCF and calibrated costs of M systems on the same trials."""
    target_N = here.target_N
    rocs = [Condensed(Roc(score_N, target_N)) for score_N in score_MN]
    llr_MN = [None] * len(rocs) if fold_P is None else [_llr(s, here, fold_P) for s in score_MN]
    llr_rocs = [None if llr_N is None else Condensed(Roc(llr_N, target_N)) for llr_N in llr_MN]
    values: list[dict[str, list[Floats]]] = [{} for _ in rocs]
    for weight_RN in _weights(here, speakers):
        for one, roc, llr_N, llr_roc in zip(values, rocs, llr_MN, llr_rocs, strict=True):
            for metric, value_R in _metrics(roc, weight_RN, llr_N, llr_roc, target_N, costs).items():
                one.setdefault(metric, []).append(value_R)
    # The first weighting is that of the trials as they are.
    whole = [{metric: np.concatenate(parts) for metric, parts in one.items()} for one in values]
    return [{metric: (float(all_R[0]), all_R[1:]) for metric, all_R in one.items()} for one in whole]


def _metrics(
    roc: Condensed,
    weight_RN: Floats,
    llr_N: Floats | None,
    llr_roc: Condensed | None,
    target_N: NDArray[np.bool_],
    costs: bool,
) -> dict[str, Floats]:
    weight_RU = roc.condense(weight_RN)
    found = {"EER": 100 * np.array([roc.roc.eer(w) for w in weight_RU])}
    if costs:
        for p in P_TARGETS:
            found[f"minDCF{p:g}"] = np.array([roc.roc.min_dcf(p, w) for w in weight_RU])
    if llr_N is not None and llr_roc is not None:
        found["Cllr"] = _cllr(llr_N, target_N, weight_RN)
        found["minCllr"] = np.array([llr_roc.roc.min_cllr(w) for w in llr_roc.condense(weight_RN)])
    return found


class Condensed:
    """The few groups of trials that matter to a ROC, whatever the weights: neighbours of one class are one.

    A hull, a detection cost and a pooling of violators can only turn where the class changes. With a score
    per group, ``roc`` has the figures of all N trials from the summed weights of its U groups.
    """

    def __init__(self, roc: Roc) -> None:
        self.order_N = np.lexsort((roc.target_N, roc.score_N))
        score_N, target_N = roc.score_N[self.order_N], roc.target_N[self.order_N]
        new_N = np.append(True, np.diff(score_N) > 0)
        tie_N = np.cumsum(new_N) - 1
        targets_T, total_T = np.bincount(tie_N, target_N), np.bincount(tie_N)
        pure_N = ((targets_T == 0) | (targets_T == total_T))[tie_N]
        same_N = np.append(False, target_N[1:] == target_N[:-1])
        both_pure_N = np.append(False, pure_N[1:] & pure_N[:-1])
        starts_N = ~same_N | (new_N & ~both_pure_N)
        self.start_U = np.flatnonzero(starts_N)
        self.roc = Roc(np.cumsum(new_N[self.start_U]).astype(np.float64), target_N[self.start_U])

    def condense(self, weight_RN: Floats) -> Floats:
        """Weights [R,U] of the groups."""
        return np.add.reduceat(weight_RN[:, self.order_N], self.start_U, axis=1)


def _weights(here: Comparisons, speakers: SpeakerBootstrap) -> Iterator[Floats]:
    """Weights [R,N] of the trials as they are and in every resample, some at a time, for memory."""
    count = len(here.left_N)
    yield np.ones((1, count))
    step = max(1, MOST_WEIGHTS // count)
    for start in range(0, len(speakers.times_RP), step):
        resamples = slice(start, start + step)
        yield speakers.trial_weights(here.left_speaker_N, here.right_speaker_N, resamples)


def _llr(score_N: Floats, here: Comparisons, fold_P: NDArray[np.intp]) -> Floats | None:
    return held_out_llr(score_N, here.target_N, fold_P[here.left_speaker_N], fold_P[here.right_speaker_N])


def _cllr(llr_N: Floats, target_N: NDArray[np.bool_], weight_RN: Floats) -> Floats:
    """:func:`separative.metrics.cllr` for many weightings."""
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

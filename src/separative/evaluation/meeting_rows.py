"""Result rows of the evaluation on conversations, with intervals over conversations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from separative.evaluation.bootstrap import SpeakerBootstrap, bootstrap_interval
from separative.evaluation.results import POOLED, Row
from separative.evaluation.rows import errors_by_part
from separative.metrics import DiarizationError, eer
from separative.types import Floats

Scores = list[tuple[float, bool]]
"""Verification trials: score, and whether the trial is a target trial."""


@dataclass
class ConversationFigures:
    """Figures of one variant of diarization on one conversation.

    Attributes:
        error: diarization error in seconds.
        jaccard: Jaccard error rate, as a fraction.
        swaps: how often a stream changes from one speaker to another.
        found, present: number of speakers found, and number of speakers who speak.
        improvements: SI-SDR improvement in dB of each speaker who speaks; empty if not measured.
        scores: for each enrolled speaker, the score of the most similar speaker of the conversation.
        window_scores: for each stream of each window and each enrolled speaker, their score.

    >>> figures = ConversationFigures(DiarizationError(10.0, 0.5, 0.5, 0.0), 0.1, swaps=0, found=2, present=3)
    >>> figures.error.rate
    0.1
    """

    error: DiarizationError
    jaccard: float
    swaps: int
    found: int
    present: int
    improvements: list[float] = field(default_factory=list)
    scores: Scores = field(default_factory=list)
    window_scores: Scores = field(default_factory=list)


def meeting_rows(
    figures: Mapping[str, Mapping[str, Sequence[ConversationFigures]]], bootstrap: SpeakerBootstrap, seed: int
) -> Iterator[Row]:
    """Yield the rows of all conditions and variants.

    Args:
        figures: by condition and then variant, the figures of each conversation. The first variant is the one
            that the others are compared with.
        bootstrap: resamples of the conversations.
        seed: random seed of the conversations, stated in the rows.

    >>> perfect = ConversationFigures(DiarizationError(10.0, 0.0, 0.0, 0.0), 0.0, swaps=0, found=2, present=2)
    >>> bootstrap = SpeakerBootstrap(["0", "1"], resamples=5, seed=0)
    >>> rows = list(meeting_rows({"2 speakers, 0%": {"csc": [perfect, perfect]}}, bootstrap, seed=0))
    >>> rows[0].metric, rows[0].value
    ('DER', 0.0)
    """
    for condition, by_variant in figures.items():
        for variant, conversations in by_variant.items():
            yield from _rows(conversations, variant, condition, bootstrap, seed)
        yield from _comparison_rows(by_variant, condition, bootstrap, seed)


def _rows(
    conversations: Sequence[ConversationFigures],
    variant: str,
    condition: str,
    bootstrap: SpeakerBootstrap,
    seed: int,
) -> list[Row]:
    """Rows of one variant in one condition."""
    index_N = np.arange(len(conversations))

    def row(metric: str, figures: tuple[float, float, float], count: int) -> Row:
        return Row(variant, condition, metric, *figures, count, POOLED, seed)

    total_N = np.array([c.error.total for c in conversations])
    rows = [
        row(metric, bootstrap.ratio(100 * part_N, total_N, index_N), len(conversations))
        for metric, part_N in errors_by_part([c.error for c in conversations]).items()
    ]
    means = {
        "JER": [100 * c.jaccard for c in conversations],
        "swaps": [float(c.swaps) for c in conversations],
        "miscounted": [float(abs(c.found - c.present)) for c in conversations],
        "count right": [100.0 * (c.found == c.present) for c in conversations],
    }
    if conversations[0].improvements:
        means["SI-SDRi"] = [float(np.mean(c.improvements)) for c in conversations]
    rows += [
        row(metric, bootstrap.mean(np.array(value), index_N), len(conversations))
        for metric, value in means.items()
    ]
    trials = [c.scores for c in conversations]
    if (found := equal_error(trials, bootstrap)) is not None:
        value, value_R = found
        rows.append(row("EER", (value, *bootstrap_interval(value_R, value)), sum(map(len, trials))))
    return rows


def _comparison_rows(
    by_variant: Mapping[str, Sequence[ConversationFigures]],
    condition: str,
    bootstrap: SpeakerBootstrap,
    seed: int,
) -> list[Row]:
    """Rows of the EER of windows, and of the differences of that EER and of the DER to the first variant."""
    rows: list[Row] = []
    wrong = {variant: errors_by_part([c.error for c in some])["DER"] for variant, some in by_variant.items()}
    first, *others = by_variant
    total_N = np.array([c.error.total for c in by_variant[first]])
    for variant in others:
        figures = bootstrap.ratio(100 * (wrong[variant] - wrong[first]), total_N, np.arange(len(total_N)))
        rows.append(Row(variant, condition, "DER difference", *figures, len(total_N), POOLED, seed))
    reference: tuple[float, Floats] | None = None
    for variant, conversations in by_variant.items():
        trials = [c.window_scores for c in conversations]
        if (found := equal_error(trials, bootstrap)) is None:
            continue
        metrics = {"window EER": found}
        if reference is None:
            reference = found
        else:
            metrics["window EER difference"] = found[0] - reference[0], found[1] - reference[1]
        count = sum(map(len, trials))
        rows += [
            Row(variant, condition, metric, value, *bootstrap_interval(value_R, value), count, POOLED, seed)
            for metric, (value, value_R) in metrics.items()
        ]
    return rows


def equal_error(trials: Sequence[Scores], bootstrap: SpeakerBootstrap) -> tuple[float, Floats] | None:
    """EER in % over the trials of all conversations, and in each resample [R].

    Args:
        trials: the trials of each conversation or recording.
        bootstrap: resamples of the conversations or recordings.

    Returns:
        None if there are no target or no non-target trials.

    >>> trials = [[(0.9, True), (0.1, False)], [(0.8, True), (0.2, False)]]
    >>> value, resampled = equal_error(trials, SpeakerBootstrap(["0", "1"], resamples=5, seed=0))
    >>> value, len(resampled)
    (0.0, 5)
    """
    conversation_N = np.array([n for n, scores in enumerate(trials) for _ in scores])
    score_N = np.array([score for scores in trials for score, _ in scores])
    target_N = np.array([target for scores in trials for _, target in scores], bool)
    if not target_N.any() or target_N.all():
        return None
    resampled_R = np.array(
        [100 * eer(score_N, target_N, counts_N[conversation_N]) for counts_N in bootstrap.counts]
    )
    return 100 * eer(score_N, target_N), resampled_R

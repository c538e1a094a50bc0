"""From what the systems said to result rows, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from separative.evaluation.answers import Answers
from separative.evaluation.bootstrap import Talkers, interval
from separative.evaluation.conditions import condition_named
from separative.evaluation.information import information_bound
from separative.evaluation.results import POOLED, Row
from separative.evaluation.trials import TrialList
from separative.metrics import Floats, Roc

INFORMATION = ("clean", "overlap0")
P_TARGET = 0.05


def verification_rows(
    score_LR: Mapping[tuple[str, str], Floats], trials: TrialList, talkers: Talkers
) -> list[Row]:
    """EER (%) and normalised minDCF over all trials, and the EER of each corpus by itself."""
    corpora = list(dict.fromkeys(trials.corpus_of.values()))
    places = [corpora[0]] if len(corpora) == 1 else [POOLED, *corpora]
    left_at = {side.id: i for i, side in enumerate(trials.enrolments)}
    right_at = {side.id: i for i, side in enumerate(trials.tests)}
    left_talker = talkers.indices([side.talker for side in trials.enrolments])
    right_talker = talkers.indices([side.talker for side in trials.tests])
    left_corpus = np.array([side.corpus for side in trials.enrolments])
    models = list(dict.fromkeys(model for model, _ in score_LR))
    rows = []
    for condition in trials.conditions:
        some = [t for t in trials.trials if t.condition == condition]
        left_N = np.array([left_at[t.enrolment] for t in some])
        right_N = np.array([right_at[t.test] for t in some])
        target_N = np.array([t.target for t in some])
        for place in places:
            here_N = (left_corpus[left_N] == place) | (place == POOLED)
            left, right, target = left_N[here_N], right_N[here_N], target_N[here_N]
            weights = [
                talkers.trial_weights(left_talker[left], right_talker[right], r)
                for r in range(len(talkers.times_RP))
            ]
            for model in models:
                roc = Roc(score_LR[model, condition][left, right], target)
                eers = 100 * np.array([roc.eer(weight) for weight in weights])
                figures = [("EER", 100 * roc.eer(), eers)]
                if place == places[0]:
                    costs = np.array([roc.min_dcf(P_TARGET, weight) for weight in weights])
                    figures.append(("minDCF", roc.min_dcf(P_TARGET), costs))
                for metric, value, value_R in figures:
                    low, high = interval(value_R, value)
                    rows.append(
                        Row(model, condition, metric, value, low, high, len(target), place, trials.seed)
                    )
    # One model after the other, as a reader expects, each metric by itself.
    return sorted(rows, key=lambda r: (r.metric, places.index(r.corpus), models.index(r.model)))


def separation_rows(answers: dict[str, Answers], trials: TrialList, talkers: Talkers) -> list[Row]:
    """SI-SDR improvement, mean over the sources of a mixture; resampled by its target."""
    rows = []
    place = _place(trials)
    for model, answer in answers.items():
        improvement = answer.figures.get("SI-SDRi", {})
        for condition in trials.conditions:
            sides = [side for side in trials.tests if (side.id, condition) in improvement]
            if sides:
                gain_N = np.array([improvement[side.id, condition].mean() for side in sides])
                figures = talkers.mean(gain_N, talkers.indices([side.talker for side in sides]))
                count = sum(len(improvement[side.id, condition]) for side in sides)
                rows.append(Row(model, condition, "SI-SDRi", *figures, count, place, trials.seed))
    return rows


def information_rows(answers: dict[str, Answers], trials: TrialList, talkers: Talkers) -> list[Row]:
    """The bound for the most talkative stream of clean speech, and for both talkers of a mixture.

    Which stream of a mixture is whom is decided by separation alone. Systems that do not separate have no
    figure for mixtures.
    """
    rows = []
    place = _place(trials)
    for model, answer in answers.items():
        inventory_PE = np.stack(
            [
                np.sum(
                    [
                        answer.voices[s.id, "clean"].embedding_CE[0]
                        for s in trials.enrolments
                        if s.talker == t
                    ],
                    0,
                )
                for t in talkers.index
            ]
        )
        inventory_PE /= np.linalg.norm(inventory_PE, axis=1, keepdims=True)
        for condition in (c for c in INFORMATION if c in trials.conditions):
            embeddings, names = [], []
            for side in trials.tests:
                voices = answer.voices[side.id, condition].embedding_CE
                if not condition_named(condition).sir_db:
                    embeddings.append(voices[0])
                    names.append(side.talker)
                elif (side.id, condition) in answer.stream:
                    streams = answer.stream[side.id, condition]
                    embeddings += [voices[c] for c in streams]
                    names += [side.talker, *(r.talker for r in side.rivals[: len(streams) - 1])]
            if embeddings:
                talker_N = talkers.indices(names)
                figures = information_bound(
                    np.stack(embeddings), talker_N, inventory_PE, talkers, trials.seed
                )
                rows.append(Row(model, condition, "MI", *figures, len(names), place, trials.seed))
    return rows


def _place(trials: TrialList) -> str:
    corpora = set(trials.corpus_of.values())
    return corpora.pop() if len(corpora) == 1 else POOLED

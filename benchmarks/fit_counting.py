"""Fit the constants with which `diarize` counts speakers (``CountingRule``), on simulated conversations.

    python benchmarks/fit_counting.py base --data DATA --cache CACHE   # rewrites docs/benchmarks/counting.md

DATA holds ``speech.csv``, ``noise.csv`` and ``meetings.csv``. The conversations have 1 to 7 speakers of the
split dev and last 30 s to 20 minutes. A third of them, and the real recordings, are only measured. The
outputs of the model are kept in CACHE, so a second run takes little time. The constants are printed as an
entry ``counting`` of a model's card; ``--write`` writes it to the card of a model folder.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from common import PAGES, made_on, table, write_page
from counting_data import FRAME, LENGTHS, Case, real, simulated
from separative.evaluation.oracles import shared_segments
from separative.inference.cluster import FirstClusters, first_clusters
from separative.inference.counting import (
    CountingRule,
    Merging,
    describe_clusters,
    eigengap_evidence,
    same_features,
)
from separative.inference.diarize import assign_speakers, cluster_inputs
from separative.metrics import DiarizationError, diarization_error
from separative.model import load_model, update_card
from separative.rttm import turns_to_frames

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

# A cluster takes part in the first fit with this share of one speaker, and this many seconds.
PURE, LEAST_SECONDS = 0.7, 0.5
# Multiples of the present constants that are tried, and points of error that are as good as the least error.
GRID, CLOSE = (0.4, 0.6, 0.8, 1.0, 1.25, 1.6, 2.5), 0.1
MOST_TRIED = 9
FITTED = ("merge_scale", "prior_odds", "eigengap_weight")
HEADER = [
    "recordings",
    "number",
    "DER before, %",
    "counted right",
    "DER after, %",
    "counted right",
    "given, %",
]


@dataclass(frozen=True)
class ClusteredCase:
    """A conversation with its clusters before they are merged.

    Attributes:
        case: the conversation.
        embedding: embeddings of all streams [W, C, E].
        first: the clusters.
        eigengap: evidence of the eigengap for each number of clusters.
    """

    case: Case
    embedding: np.ndarray
    first: FirstClusters
    eigengap: np.ndarray

    def merging(self, rule: CountingRule) -> Merging:
        """Merge the clusters."""
        first = self.first
        return Merging(
            self.embedding, first.label, first.counted, first.seconds, first.least, self.eigengap, rule
        )


def cluster_case(model: SeparativeEncoder, case: Case) -> ClusteredCase | None:
    """Cluster the streams of a conversation; None if there is no speech of a second."""
    inputs = cluster_inputs(model, case.windows)
    first = first_clusters(**inputs)
    if first.label.max(initial=-1) < 0 or not case.speakers:
        return None
    embedding = inputs["embedding"]
    return ClusteredCase(case, embedding, first, eigengap_evidence(embedding[first.compared]))


def cluster_pairs(model: SeparativeEncoder, clustered: ClusteredCase) -> tuple[np.ndarray, np.ndarray]:
    """Features of pairs of clusters [N, 4], and whether both are one speaker [N]."""
    case, first = clustered.case, clustered.first
    shared_WCK = np.concatenate(
        [shared_segments(phase, model.rate, case.reference) for phase in case.windows.phases]
    )
    clusters = describe_clusters(clustered.embedding, first.label, first.counted, first.seconds)
    feature_LLF, seconds_L = same_features(*clusters), clusters[1]
    shared_LK = np.stack([shared_WCK[first.label == n].sum(0) for n in range(len(seconds_L))])
    pure_L = shared_LK.max(1) >= PURE * np.maximum(shared_LK.sum(1), 1e-9)
    used = np.flatnonzero(pure_L & (seconds_L >= LEAST_SECONDS))
    who_L = shared_LK.argmax(1)
    one, other = (used[i] for i in np.triu_indices(len(used), 1))
    return feature_LLF[one, other], who_L[one] == who_L[other]


def fit_same(pairs: Sequence[tuple[np.ndarray, np.ndarray]], rule: CountingRule) -> CountingRule:
    """Fit the log-odds that two clusters are one speaker, by logistic regression."""
    feature_NF, same_N = (np.concatenate(x) for x in zip(*pairs, strict=True))
    found = LogisticRegression(C=10.0, max_iter=1000).fit(feature_NF, same_N)
    weights = tuple(round(float(weight), 2) for weight in found.coef_[0])
    return rule.model_copy(
        update={"same_weights": weights, "same_constant": round(float(found.intercept_[0]), 2)}
    )


@dataclass(frozen=True)
class Score:
    """The answer for one conversation: its error, the number of speakers found and the true number."""

    error: DiarizationError
    found: int
    true: int


def score(
    model: SeparativeEncoder,
    rule: CountingRule,
    case: Case,
    *,
    number: int | None = None,
    attention: bool = True,
) -> Score:
    """Diarize a conversation with these constants, and compare the turns with the reference.

    ``number``: the number of speakers, if it is given.
    """
    card = model.card.get("counting")
    model.card["counting"] = rule.model_dump()
    try:
        speakers, _ = assign_speakers(model, case.windows, speakers=number, attention=attention)
    finally:
        del model.card["counting"]
        if card is not None:
            model.card["counting"] = card
    turns = [turn for speaker in speakers for turn in speaker.turns]
    found_CT = turns_to_frames(turns, [s.name for s in speakers], case.reference.shape[1], FRAME)
    return Score(diarization_error(case.reference, found_CT, FRAME), len(speakers), case.speakers)


def errors_by_number(model: SeparativeEncoder, rule: CountingRule, case: Case) -> dict[int, Score]:
    """The answers for a conversation with 1, 2, ... MOST_TRIED speakers, as far as there are clusters."""
    # These odds make the greatest number allowed the most probable one.
    most = rule.model_copy(update={"prior_odds": 100.0, "merge_scale": 1e-6, "eigengap_weight": 0.0})
    answers = [
        score(model, most, case, number=number, attention=False) for number in range(1, MOST_TRIED + 1)
    ]
    return dict(enumerate(answers, 1))


def fit_number(
    clustered: Sequence[ClusteredCase], model: SeparativeEncoder, rule: CountingRule
) -> CountingRule:
    """Fit scale of merges, prior odds and weight of the eigengap, on a grid around the present values.

    The error is the mean of the diarization errors of all lengths of conversations. Among the constants with
    an error at most CLOSE points above the least, those nearest to the present ones are used.
    """
    merged = [
        (one.merging(rule), errors_by_number(model, rule, one.case), one.case.kind) for one in clustered
    ]
    kinds = sorted({kind for *_, kind in merged})

    def error(tried: CountingRule) -> float:
        chosen: dict[str, list[Score]] = {kind: [] for kind in kinds}
        for merging, answers, kind in merged:
            number = int(merging.weigh(tried).argmax())
            chosen[kind].append(answers[min(number, MOST_TRIED)])
        return float(np.mean([rate(scores) for scores in chosen.values()]))

    steps = list(itertools.product(GRID, repeat=len(FITTED)))
    found = []
    for step in steps:
        values = {name: round(getattr(rule, name) * x, 3) for name, x in zip(FITTED, step, strict=True)}
        tried = rule.model_copy(update=values)
        found.append((error(tried), float(np.abs(np.log(step)).sum()), tried))
    least = min(value for value, *_ in found)
    return min((x for x in found if x[0] <= least + CLOSE / 100), key=lambda x: x[1])[2]


def rate(scores: Sequence[Score]) -> float:
    """Diarization error of several conversations together."""
    wrong = sum(s.error.missed + s.error.false_alarm + s.error.confusion for s in scores)
    return wrong / max(sum(s.error.total for s in scores), 1e-9)


def summary(scores: Sequence[Score]) -> tuple[str, str]:
    """Error in % and how many numbers are right."""
    right = sum(s.found == s.true for s in scores)
    return f"{100 * rate(scores):.1f}", f"{right} of {len(scores)}"


def present(case: Case) -> int | None:
    """Number of speakers who speak; None without speech."""
    return int(case.reference.any(1).sum()) or None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="model name or folder")
    parser.add_argument("--data", type=Path, required=True, help="folder of the manifests")
    parser.add_argument("--cache", type=Path, default=Path(".cache"), help="folder of the outputs")
    parser.add_argument(
        "--most", type=int, default=max(LENGTHS.values()), help="most conversations of a length"
    )
    parser.add_argument("--page", default=str(PAGES / "counting.md"), help="page to write; - prints it")
    parser.add_argument("--write", action="store_true", help="write the constants to the model's card")
    parser.add_argument(
        "--keep-same", action="store_true", help="keep the weights of the features of clusters"
    )
    parser.add_argument("--lengths", default="30,60,120,300,600,1200", help="lengths in seconds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    loads, started = [os.getloadavg()[0]], time.process_time()
    model = load_model(args.model)
    before = CountingRule.of(model)
    lengths = {seconds: min(LENGTHS[seconds], args.most) for seconds in map(int, args.lengths.split(","))}
    cases = list(simulated(model, args.data, args.cache, lengths))
    clustered = [c for case in cases if case.fitted and (c := cluster_case(model, case)) is not None]
    after = before
    if not args.keep_same:
        after = fit_same([cluster_pairs(model, one) for one in clustered], before)
    after = fit_number(clustered, model, after)
    groups: dict[str, list[Case]] = {}
    for case in [*cases, *real(model, args.data, args.cache)]:
        use = "fitted" if case.fitted else "held out" if case in cases else "real"
        groups.setdefault(f"{case.kind}, {use}", []).append(case)
    rows = []
    for name, group in groups.items():
        answers = [
            summary([score(model, rule, case, number=present(case) if given else None) for case in group])
            for rule, given in ((before, False), (after, False), (after, True))
        ]
        rows.append([name, str(len(group)), *answers[0], *answers[1], answers[2][0]])
    entry = json.dumps({"counting": after.model_dump()})
    write_page(
        args.page,
        [
            "# Constants of counting",
            "",
            f"Model `{args.model}`. Constants before: `{json.dumps(before.model_dump())}`. Fitted:",
            "",
            "```json",
            entry,
            "```",
            "",
            "Simulated conversations have 1 to 7 speakers of the split dev and five styles. DER is the",
            "diarization error with overlap, without a collar. A speaker counts with a second of speech.",
            "*Given* is the DER after the fit with the number of speakers given. Nothing is fitted on held",
            "out and real recordings.",
            "",
            *table(HEADER, rows),
            "",
            *made_on(loads, "torch"),
            f"{time.process_time() - started:.0f} s of processor time, with the outputs that were missing.",
        ],
        [],
    )
    print(entry)
    if args.write:
        update_card(args.model, counting=after.model_dump())


if __name__ == "__main__":
    main()

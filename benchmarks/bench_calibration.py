"""False alarms and misses at a stated 5 %, on corpora and conditions that the calibration was not fitted on.

    python benchmarks/bench_calibration.py --data DATA   # rewrites docs/benchmarks/calibration.md

DATA holds ``speech.csv`` and ``noise.csv``. Runs the shipped model on speakers it was not trained on:
those of split ``dev``, and those of ``dspspeech``. ``--sides FILE`` keeps the embedded
sides for another analysis.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common import Record, arguments, made_on, parsed, run_child, table, write_page

if TYPE_CHECKING:
    from separative.evaluation.qualities import QualitySide
    from separative.metrics.quality import QualityCalibration

RATE, SECONDS, STATED, SEED = 16000, 4.0, 0.05, 0
# Conditions of no fit at all, besides those that a row leaves out.
NEVER = ("room", "clean@1.5")
LEFT_OUT = ("telephone", "opus", "noise0")


def embed_sides(data: Path, keep: Path | None) -> list[QualitySide]:
    """The sides of unseen speakers in all conditions; read from ``keep`` if it exists."""
    import separative
    from separative.corpora import load_corpus
    from separative.evaluation import TrialRecordings, build_trials
    from separative.evaluation.qualities import QUALITY_CONDITIONS, QualitySide, collect_sides

    if keep is not None and keep.exists():
        stored = np.load(keep)
        rows = json.loads(str(stored["rows"]))
        at = np.cumsum([0, *(row["streams"] for row in rows)])
        return [
            QualitySide(
                **{k: row[k] for k in ("side", "speaker", "corpus", "condition")},
                present=frozenset(row["present"]),
                embeddings=stored["embeddings"][a:b],
                qualities=stored["qualities"][a:b],
            )
            for row, a, b in zip(rows, at, at[1:], strict=False)
        ]
    model = separative.load_model()
    corpus = load_corpus(data / "speech.csv").filter(lambda u: u.split == "dev" or u.corpus == "dspspeech")
    noise = load_corpus(data / "noise.csv").split("dev")
    trials = build_trials(
        corpus, noise=noise, conditions=["clean"], seed=SEED, seconds=SECONDS, enrolments=1, tests=2
    )
    trials.check_speakers(model.training_speakers)
    recordings = TrialRecordings(corpus, noise, RATE, SECONDS)
    sides = collect_sides(model, trials, recordings, (*QUALITY_CONDITIONS, *NEVER))
    if keep is not None:
        rows = [
            {
                **{k: getattr(s, k) for k in ("side", "speaker", "corpus", "condition")},
                "present": sorted(s.present),
                "streams": len(s.embeddings),
            }
            for s in sides
        ]
        np.savez(
            keep,
            rows=json.dumps(rows),
            embeddings=np.concatenate([s.embeddings for s in sides]),
            qualities=np.concatenate([s.qualities for s in sides]),
        )
    return sides


def rates(
    calibration: QualityCalibration, sides: Sequence[QualitySide], sizes: Sequence[int], card: Record
) -> Record:
    """False alarms and misses by pair of conditions: of the card, and at STATED by cohort size."""
    from separative.evaluation.qualities import REFERENCE, cohort_shifts, make_pairs

    found: Record = {}
    for condition in dict.fromkeys(s.condition for s in sides):
        for reference in dict.fromkeys((REFERENCE, condition)):
            pairs = make_pairs(sides, seed=SEED, most=1000, only=(reference, condition))
            feature_NF = calibration.features(pairs.left_quality, pairs.right_quality)
            score_N = np.sum(calibration.project(pairs.left) * calibration.project(pairs.right), axis=1)
            above_N = calibration.centred(score_N, feature_NF)
            raw_N = np.sum(pairs.left * pairs.right, axis=1)
            row = {"card": _two(raw_N * card["scale"] + card["offset"] > 0, pairs.targets)}
            for size in sizes:
                shift_N = (
                    cohort_shifts(calibration, pairs, sides, size=size, seed=SEED)
                    if size
                    else np.zeros(len(score_N))
                )
                chosen = calibration.cohort if size else calibration.alone
                if chosen is None:
                    raise ValueError("the fit has no cohort")
                rate_N = chosen.false_alarm_rate(above_N - shift_N, feature_NF)
                row[str(size)] = _two(rate_N <= STATED, pairs.targets)
            found[f"{reference} / {condition}"] = row
    return found


def _two(accepted_N: np.ndarray, target_N: np.ndarray) -> list[float]:
    """False alarms and misses, in percent."""
    return [100 * float(accepted_N[~target_N].mean()), 100 * float((~accepted_N[target_N]).mean())]


def measure(case: Record) -> Record:
    """Rates on each corpus: fitted without it, and without it and one condition."""
    import separative
    from separative.evaluation.qualities import fit_qualities

    sides = embed_sides(Path(case["data"]), Path(case["sides"]) if case["sides"] else None)
    card = separative.load_model().card["calibration"]
    found: Record = {"corpora": {}, "conditions": {}, "speakers": {}, "card": card}
    fitted_on = [s for s in sides if s.condition not in NEVER]
    for corpus in sorted({s.corpus for s in sides}):
        own = [s for s in sides if s.corpus == corpus]
        others = [s for s in fitted_on if s.corpus != corpus]
        found["speakers"][corpus] = len({s.speaker for s in own})
        found["corpora"][corpus] = rates(fit_qualities(others, seed=SEED), own, (0, 4, 8), card)
        for condition in LEFT_OUT:
            calibration = fit_qualities([s for s in others if s.condition != condition], seed=SEED)
            tested = [s for s in own if s.condition in ("clean", condition)]
            row = rates(calibration, tested, (0, 8), card)
            found["conditions"].setdefault(condition, {})[corpus] = row[f"clean / {condition}"]
            found["conditions"].setdefault(f"{condition}, both sides", {})[corpus] = row[
                f"{condition} / {condition}"
            ]
    return found


def cells(row: Record, keys: Sequence[str]) -> list[str]:
    """False alarms / misses of a row."""
    return [f"{row[key][0]:.0f} / {row[key][1]:.0f}" for key in keys]


def main() -> None:
    parser = arguments(__doc__, "calibration.md", runs=1, rounds=1)
    parser.add_argument("--data", help="folder with speech.csv and noise.csv")
    parser.add_argument("--sides", help="file that keeps the embedded sides")
    args = parsed(parser, measure, needed=["data"])
    found = run_child(__file__, {"data": args.data, "sides": args.sides})
    corpora = list(found["corpora"])
    lines = [
        "# Calibration by quality",
        "",
        *made_on([os.getloadavg()[0]], "torch"),
        "",
        f"The shipped model on {', '.join(f'{n} speakers of {c}' for c, n in found['speakers'].items())},"
        f" none of them in its training; {SECONDS:g} s a side, seed {SEED}. Every cell is false"
        " alarms / misses in percent, over all pairs of sides of one corpus. `card` is a log-likelihood ratio"
        f" of 0 by the cosine alone, {found['card']['scale']:.2f} · score {found['card']['offset']:+.2f}."
        " The other columns accept at a stated false-alarm rate of"
        f" {100 * STATED:g} %, without a cohort and with cohorts of 4 and 8 clean recordings of other"
        " speakers of the corpus.",
        "",
        "The few speakers set the precision: with 10 speakers of AN4, one pair of similar speakers is 2 % of"
        " the comparisons of different speakers.",
        "",
    ]
    for corpus, rows in found["corpora"].items():
        lines += [f"## Fitted without {corpus}", ""]
        lines += table(
            ["left / right", "card", "no cohort", "cohort of 4", "cohort of 8"],
            [[name, *cells(row, ("card", "0", "4", "8"))] for name, row in rows.items()],
        )
        lines += [""]
    lines += [
        "## Fitted without the corpus and without the condition",
        "",
        "The condition is on one side, and the other is clean, or it is on both sides. Without a cohort, and"
        " with one of 8. A calibration without telephone refuses to compare telephone with wide band;"
        " the row shows what it would answer.",
        "",
        *table(
            ["condition", *(f"{c}: {k}" for c in corpora for k in ("no cohort", "cohort"))],
            [
                [name, *(cell for c in corpora for cell in cells(row[c], ("0", "8")))]
                for name, row in found["conditions"].items()
            ],
        ),
    ]
    values = [row["8"][0] for rows in found["corpora"].values() for row in rows.values()]
    values += [row["8"][0] for by in found["conditions"].values() for row in by.values()]
    within = sum(2 <= v <= 10 for v in values)
    lines += [
        "",
        f"With a cohort of 8, {within} of {len(values)} rates of false alarms are between 2 and 10 %"
        f" (lowest {min(values):.1f}, highest {max(values):.1f} %).",
    ]
    alone = [row["0"][0] for rows in found["corpora"].values() for row in rows.values()]
    lines += [
        f"Without a cohort, {sum(2 <= v <= 10 for v in alone)} of {len(alone)} are (lowest {min(alone):.1f},"
        f" highest {max(alone):.1f} %).",
    ]
    write_page(args.page, lines, [])


if __name__ == "__main__":
    main()

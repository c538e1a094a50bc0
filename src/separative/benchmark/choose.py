"""The learning rate of a row: the one with the least error on trials of their own."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from separative.benchmark.folder import Folder, Record, Stage, read_json
from separative.benchmark.plan import Plan, RowPlan
from separative.evaluation import TrialList, eer, score_lines
from separative.files import write_json


def quick_eers(stage: Stage, row: RowPlan, trials: TrialList) -> dict[str, float]:
    """EER (%) of a stage's answers by condition, over all trials."""
    name, answers = next(iter(stage.answers().items()))
    scores: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for line in score_lines({name: answers}, trials, candidates=row.candidates):
        scores[line["condition"]].append((line["score"], line["target"]))
    return {
        condition: 100 * eer(np.array([s for s, _ in pairs]), np.array([t for _, t in pairs]))
        for condition, pairs in scores.items()
    }


def choose_rate(plan: Plan, folder: Folder, row: RowPlan) -> Record:
    """``{"lr": the chosen one, "tried": [{"lr", "eer", "mean"}]}`` of a row whose grid has been heard."""
    assert plan.grid is not None
    path = folder.full(row).folder / "choice.json"
    if not path.is_file():
        trials = TrialList.read(folder.grid_trials)
        tried: list[Record] = []
        for lr in plan.grid.lr:
            found = quick_eers(folder.on_grid(row, lr), row, trials)
            tried.append({"lr": lr, "eer": found, "mean": sum(found.values()) / len(found)})
        least = min(range(len(tried)), key=[one["mean"] for one in tried].__getitem__)
        write_json(path, {"lr": plan.grid.lr[least], "tried": tried})
    record: Record = read_json(path)
    return record

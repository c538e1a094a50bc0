"""The page about your own corpus, objective and trial list: its commands run, in order, on a small folder."""

import json
import re
import shlex
from contextlib import chdir
from pathlib import Path

import pytest
from cli_helpers import Run, write_corpus

from separative.corpora import load_corpus
from separative.evaluation import Results
from separative.objectives.registry import OBJECTIVES

PAGE = (Path(__file__).parents[2] / "docs" / "own.md").read_text(encoding="utf-8")


def fences(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_from_a_folder_to_error_rates_on_a_list_of_trials(
    cli: Run, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OBJECTIVES, "pull", None)
    monkeypatch.delitem(OBJECTIVES, "pull")
    write_corpus(tmp_path / "speech", speakers=8, takes=2)
    [plugin] = fences("python")
    lines = "\n".join(fences("sh")).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line) for line in lines]
    (tmp_path / "my_objective.py").write_text(plugin)
    with chdir(tmp_path):
        for words in filter(None, commands):
            assert words[0] == "separative"
            if "--trials" in words:
                held_out = load_corpus("runs/mine-corpus.jsonl").split("dev").by_speaker
                (ann_1, ann_2), (bob, _), _ = (
                    [f"{u.path.parent.name}/{u.path.name}" for u in held_out[name]] for name in held_out
                )
                Path("trials.txt").write_text(f"1 {ann_1} {ann_2}\n0 {ann_1} {bob}\n0 {ann_2} {bob}\n")
            if words[1] == "train":
                words = [*words, "--recipe", recipe, "--steps", 2]
            done = cli(*words[1:])
            assert done.code == 0, done.err
        figures = Results.load(Path("runs/mine/evaluation-trials/results.json"))
        assert {"EER", "minDCF0.01"} <= {row.metric for row in figures.rows}
        assert len(Path("runs/mine/evaluation-trials/scores.txt").read_text().splitlines()) == 3
        first = json.loads(Path("runs/pull/log.jsonl").read_text().splitlines()[0])
        assert first["loss"] == pytest.approx(0.5 * first["away"], rel=1e-4)

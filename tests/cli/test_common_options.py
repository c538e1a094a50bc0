"""Options of all commands: plugins, version, completion, quiet and verbose; and held-out speakers."""

import io
import json
import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from cli_helpers import RATE, Run, hum, write_corpus

from separative import audio
from separative.cli.show import Bars
from separative.corpora import LAYOUTS, load_corpus
from separative.evaluation import CONDITIONS
from separative.objectives.registry import OBJECTIVES
from separative.plugins import load_plugins

PLUGIN = """
import torch
from separative.corpora import LAYOUTS, Utterance
from separative.evaluation import CONDITIONS, Condition
from separative.objectives import Losses, Objective, ObjectiveConfig, register_objective


class PullConfig(ObjectiveConfig):
    objective: str = "pull"
    weight: float = 1.0


class Pull(Objective):
    def __init__(self, config, identities, embedding):
        super().__init__()
        self.weight = config.weight
        self.centre = torch.nn.Embedding(identities, embedding)

    def forward(self, model, mixtures, sources, identities, groups):
        out = model(mixtures, group_B=groups, separate=False)
        away_B = (out.query_BCE[:, 0] - self.centre(identities[:, 0])).square().sum(-1)
        return Losses(self.weight * away_B.mean(), {"away": away_B.mean().detach()})


def read_flat(folder):
    for path in sorted(folder.glob("*.wav")):
        yield Utterance(path.stem, path, float("nan"), speaker=path.stem.split("-")[0])


register_objective("pull", PullConfig, Pull)
LAYOUTS["flat"] = read_flat
CONDITIONS["overlap+3"] = Condition("overlap+3", sir_db=(3.0,))
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plugin, whose entries are removed after the test."""
    for registry in (OBJECTIVES, LAYOUTS, CONDITIONS):
        for name in ("pull", "flat", "overlap+3"):
            monkeypatch.setitem(registry, name, None)
            monkeypatch.delitem(registry, name)
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    return path


def test_a_plugin_adds_an_objective_to_training(
    cli: Run, plugin: Path, speech: Path, recipe: Path, tmp_path: Path
) -> None:
    words = ["train", "--corpus", speech, "--recipe", recipe, "--out", tmp_path / "run", "--steps", 2]
    own = ["--set", "loss={objective: pull, weight: 0.5}"]
    done = cli(*words, *own)
    assert done.code == 2 and "unknown objective 'pull'" in done.err
    done = cli(*words, *own, "--plugin", plugin)
    assert done.code == 0, done.err
    first = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(0.5 * first["away"], rel=1e-4)


def test_a_plugin_adds_a_layout_and_a_condition(cli: Run, plugin: Path, tmp_path: Path) -> None:
    for name in ("ann-1", "ann-2", "bob-1"):
        audio.write(tmp_path / "flat" / f"{name}.wav", hum(len(name), 0, 1.0), RATE)
    words = ["corpus", "import", tmp_path / "flat", tmp_path / "cuts.jsonl", "--layout", "flat"]
    assert cli(f"--plugin={plugin}", *words).code == 0
    assert load_corpus(tmp_path / "cuts.jsonl").speakers == ("ann", "bob")
    assert CONDITIONS["overlap+3"].sir_db == (3.0,)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("import torch\nnonsense\n", "line 2: the plugin fails on import: NameError: name 'nonsense'"),
        ("def f(:\n", "line 1: the plugin fails on import: SyntaxError: "),
        ("raise SystemExit\n", "line 1: the plugin fails on import: SystemExit"),
        ("import no_such_module\n", "line 1: the plugin fails on import: ModuleNotFoundError: "),
        (
            "from separative.objectives import *\n"
            "from separative.objectives.csc import LossConfig, SeparativeObjective\n"
            "register_objective('csc', LossConfig, SeparativeObjective)\n",
            "line 3: the plugin fails on import: SeparativeError: an objective 'csc' already exists",
        ),
    ],
)
def test_a_plugin_that_fails_is_one_sentence_with_its_line(
    cli: Run, tmp_path: Path, content: str, sentence: str
) -> None:
    (tmp_path / "mine.py").write_text(content)
    done = cli("info", "small", "--plugin", tmp_path / "mine.py")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"separative: {tmp_path / 'mine.py'}, {sentence}")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("name", ["gone.py", "mine.txt"])
def test_a_plugin_must_be_a_python_file(cli: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.txt").write_text("")
    done = cli("--plugin", tmp_path / name, "info", "small")
    assert done.code == 2 and "must be an existing Python file" in done.err


def test_version_is_printed_with_and_without_a_command(cli: Run) -> None:
    expected = f"separative {version('separative')}\n"
    assert cli("--version").out == cli("info", "--version").out == expected


def test_completion_of_the_shell_is_offered(cli: Run) -> None:
    assert "--install-completion" in cli("--help").out


def test_quiet_and_verbose_change_what_is_printed_beside_results(cli: Run, tmp_path: Path) -> None:
    stereo, missing = tmp_path / "stereo.wav", tmp_path / "missing.wav"
    audio.write(stereo, hum(0, 0, 2.0)[None].repeat(2, 0), RATE)
    note = f"separative: {stereo}: using the mean of 2 channels\n"
    words = ["embed", stereo, "--model", tmp_path / "gone"]
    normal, quiet = cli(*words), cli(*words, "--quiet")
    assert normal.err.startswith(note) and quiet.err == normal.err.removeprefix(note)
    error = cli("--quiet", "embed", missing)
    assert error.code == 2 and error.err == f"separative: {missing}: no such file\n"
    traced = cli("--verbose", "embed", missing)
    assert "Traceback" in traced.err and traced.err.endswith(error.err)
    assert logging.getLogger("separative").level == logging.NOTSET


def test_bars_show_minutes_of_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = io.StringIO()
    monkeypatch.setattr("sys.stderr", lines)
    monkeypatch.setattr("separative.cli.show.FIRST_LINE_SECONDS", -1.0)
    with Bars() as bars:
        bars.minutes("processing", 16000)(480_000, 1_920_000)
    assert lines.getvalue() == "processing: 0.5/2.0 min\n"


def test_speakers_are_held_out_for_validation_without_noise(cli: Run, recipe: Path, tmp_path: Path) -> None:
    corpus, out = write_corpus(tmp_path / "speech", speakers=8, takes=2), tmp_path / "run"
    noisy = ["--set", "mixtures.stages.1.noise=0.5", "--set", "run.log_every=50"]
    words = ["train", "--corpus", corpus, "--recipe", recipe, *noisy, "--holdout", "30%", "--out", out]
    done = cli(*words, "--steps", 2)
    assert done.code == 0, done.err
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert log[0]["step"] == 1 and log[0]["loss"] > 0
    assert "valid/eer_clean" in log[-1]
    saved = json.loads((out / "recipe.json").read_text())["mixtures"]["stages"]
    assert [stage["noise"] for stage in saved] == [0, 0]
    manifest = tmp_path / "run-corpus.jsonl"
    assert f"separative evaluate {out} --corpus {manifest}" in done.out
    divided = load_corpus(manifest)
    assert len(divided.split("dev").speakers) == 3
    card = json.loads((out / "model" / "model.json").read_text())
    assert card["data"]["speakers"] == list(divided.split("train").speakers)
    words_of_mix = ["mix", "--corpus", corpus, "--recipe", recipe, *noisy, "--count", 1]
    assert cli(*words_of_mix, "--out", tmp_path / "mixed").code == 0
    # The same command continues.
    assert cli(*words, "--steps", 3, "--resume").code == 0
    wrong = cli(*words[:-4], "--out", out, "--steps", 4, "--resume")
    assert wrong.code == 2 and "training speakers differ" in wrong.err


def test_a_wrong_share_of_held_out_speakers_is_refused(cli: Run, speech: Path, tmp_path: Path) -> None:
    words = ["train", "--corpus", speech, "--out", tmp_path / "run", "--holdout"]
    assert "--holdout 'ten' must be a rate such as 5% or 0.05" in cli(*words, "ten").err
    assert "needs speaker labels" in cli(*words, "10%", "--label-free").err
    assert not (tmp_path / "run").exists()


def test_processes_of_a_command_have_its_plugins(
    cli: Run, plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A benchmark trains and collects outputs in processes of its own, which inherit the environment."""
    reader = "import os\nLAYOUTS['flat'] = lambda folder: "
    reader += "(folder / 'seen').write_text(os.environ['SEPARATIVE_PLUGINS']) * []\n"
    plugin.write_text(PLUGIN + reader)
    monkeypatch.delenv("SEPARATIVE_PLUGINS", raising=False)
    (tmp_path / "flat").mkdir()
    cli(
        "corpus", "import", tmp_path / "flat", tmp_path / "cuts.jsonl", "--layout", "flat", "--plugin", plugin
    )
    assert (tmp_path / "flat" / "seen").read_text() == str(plugin)
    assert "SEPARATIVE_PLUGINS" not in os.environ
    OBJECTIVES.pop("pull")
    sys.modules.pop(f"separative_plugin_{plugin}")
    monkeypatch.setenv("SEPARATIVE_PLUGINS", str(plugin))
    load_plugins()
    assert "pull" in OBJECTIVES

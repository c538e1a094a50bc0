"""Wrong input gives one sentence on standard error, exit code 2, and writes nothing."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from cli_helpers import RATE, Run, hum, write_corpus

from separative import audio


def refused(cli: Run, *arguments: object) -> str:
    """Run a command that must fail, and return its error sentence."""
    done = cli(*arguments)
    assert done.code == 2
    assert done.out == ""
    # A note about the layout of a corpus may come first.
    notes, sentence = done.err.splitlines()[:-1], done.err.splitlines()[-1]
    assert all("--layout chooses another layout" in note for note in notes), done.err
    assert sentence.startswith("separative: ")
    return sentence


def train(speech: Path, recipe: object, out: Path, *more: object) -> tuple[object, ...]:
    return ("train", "--corpus", speech, "--recipe", recipe, "--out", out, *more)


@pytest.mark.parametrize("verb", ["train", "mix"])
def test_a_corpus_without_speech_is_refused(cli: Run, recipe: Path, tmp_path: Path, verb: str) -> None:
    (tmp_path / "empty").mkdir()
    sentence = refused(
        cli, verb, "--corpus", tmp_path / "empty", "--recipe", recipe, "--out", tmp_path / "out"
    )
    assert f"{tmp_path / 'empty'}: no speech found" in sentence
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("mixtures.bach=8", "unknown key 'mixtures.bach' (did you mean 'batch'?)"),
        ("mixtures.batch=many", "'mixtures.batch'"),
        ("model.rate=16000", "mixtures.rate is 8000 and model.rate is 16000"),
        ("optimiser", "'optimiser' is not of the form key.key=value"),
    ],
)
def test_a_wrong_recipe_key_is_named(
    cli: Run, speech: Path, recipe: Path, tmp_path: Path, override: str, words: str
) -> None:
    assert words in refused(cli, *train(speech, recipe, tmp_path / "out", "--set", override))
    assert not (tmp_path / "out").exists()


def test_an_unknown_recipe_names_the_nearest(cli: Run, speech: Path, tmp_path: Path) -> None:
    assert "'smal' (did you mean 'small'?)" in refused(cli, *train(speech, "smal", tmp_path / "out"))
    assert "'smal' (did you mean 'small'?)" in refused(cli, "info", "smal")


def _text(path: Path) -> None:
    path.write_text("no sound at all")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncated(path: Path) -> None:
    audio.write(path, hum(0, 0, 3.0), RATE)
    path.write_bytes(path.read_bytes()[:9000])


def _implausible_rate(path: Path) -> None:
    soundfile.write(path, hum(0, 0, 2.0), 100, format="WAV")


def _silent(path: Path) -> None:
    soundfile.write(path, np.zeros(2 * RATE, np.float32), RATE, format="WAV")


def _short(path: Path) -> None:
    soundfile.write(path, hum(0, 0, 0.1), RATE, format="WAV")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_text, "not readable as"),
        (_empty, "not readable as"),
        (_truncated, "not readable as"),
        (_implausible_rate, "100 Hz is not plausible"),
        (_silent, "silent throughout"),
        (_short, "is 0.10 s long"),
    ],
)
@pytest.mark.parametrize("verb", ["embed", "separate", "verify", "diarize"])
def test_unfit_audio_is_named_and_refused(
    cli: Run, speech: Path, run: Path, tmp_path: Path, make: Callable[[Path], None], words: str, verb: str
) -> None:
    if verb == "diarize" and make is _truncated:
        pytest.skip("diarize takes damaged recordings up to the damage")
    good, bad, out = speech / "speaker0" / "0.flac", tmp_path / "bad.flac", tmp_path / "out"
    make(bad)
    more = [] if verb == "verify" else ["--out", out / "e.npz" if verb == "embed" else out]
    left = [good] if verb == "verify" else []
    sentence = refused(cli, verb, *left, bad, "--model", run, *more)
    assert str(bad) in sentence
    assert words in sentence
    assert not [path for path in out.rglob("*") if path.name[0] != "."]


def test_one_bad_file_is_skipped_and_several_stop_training(cli: Run, recipe: Path, tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "speech", speakers=4, takes=2)
    (folder / "speaker2" / "8.wav").write_text("no sound at all")
    done = cli(*train(folder, recipe, tmp_path / "one"))
    assert done.code == 0, done.err
    assert "skipped: " in done.err and "8.wav" in done.err
    # One bad file is skipped and named. Several bad files, over 1 % of all, stop the run before it starts.
    (folder / "speaker2" / "9.wav").write_text("no sound at all")
    assert "2 of 10 files are bad" in refused(cli, *train(folder, recipe, tmp_path / "two"))
    assert not (tmp_path / "two").exists()


def test_fewer_than_two_speakers_are_refused(cli: Run, run: Path, recipe: Path, tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "speech", speakers=1)
    assert "1 speakers" in refused(cli, *train(folder, recipe, tmp_path / "out"))
    assert "at least" in refused(cli, "evaluate", run, "--corpus", folder, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    done = cli("corpus", "check", folder)
    assert (done.code, "only one speaker (speech/speaker0)" in done.out) == (1, True)


@pytest.mark.parametrize("verb", ["evaluate", "calibrate"])
def test_training_speakers_are_refused_in_evaluation(cli: Run, speech: Path, run: Path, verb: str) -> None:
    before = sorted(run.rglob("*")), (run / "model" / "model.json").read_bytes()
    sentence = refused(cli, verb, run, "--corpus", speech, "--seconds", 1, "--conditions", "clean")
    assert "speaker 'speech/speaker0' is in training and in evaluation (6 shared speakers in all)" in sentence
    assert (sorted(run.rglob("*")), (run / "model" / "model.json").read_bytes()) == before


def test_a_second_of_speech_is_too_little_for_a_trial(cli: Run, run: Path, tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "speech", speakers=4, takes=1, seconds=1.0)
    sentence = refused(cli, "evaluate", run, "--corpus", folder, "--out", tmp_path / "out")
    assert "two sides of 4 s" in sentence
    assert not (tmp_path / "out").exists()


def test_weights_of_another_architecture_are_refused(
    cli: Run, speech: Path, run: Path, tmp_path: Path
) -> None:
    card = json.loads((run / "model" / "model.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((run / "model" / "model.safetensors").read_bytes())
    card["architecture"]["width"] = 24
    (tmp_path / "model.json").write_text(json.dumps(card))
    sentence = refused(cli, "embed", speech / "speaker0" / "0.flac", "--model", tmp_path)
    assert f"{tmp_path / 'model.json'}: checksum mismatch" in sentence


def test_missing_and_damaged_models_are_refused(cli: Run, speech: Path, run: Path, tmp_path: Path) -> None:
    sound = speech / "speaker0" / "0.flac"
    assert "no model at 'nowhere'" in refused(cli, "embed", sound, "--model", "nowhere")
    (tmp_path / "model.json").write_bytes((run / "model" / "model.json").read_bytes())
    weights = bytearray((run / "model" / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    assert "checksum mismatch" in refused(cli, "embed", sound, "--model", tmp_path)


def test_a_missing_extra_names_the_install_command(
    cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    sentence = refused(cli, "corpus", "speak", tmp_path / "voices", "--speakers", 4, "--dev-speakers", 2)
    assert "pip install 'separative[voices]'" in sentence
    assert "separative[voices]" in refused(cli, "demo", "--out", tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_files_is_not_overwritten(
    cli: Run, speech: Path, recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "diary.txt").write_text("dear diary")
    assert f"{tmp_path} exists and is not an empty folder" in refused(cli, *train(speech, recipe, tmp_path))
    assert f"{tmp_path} exists and is not an empty folder" in refused(cli, "demo", "--out", tmp_path)
    assert refused(cli, *train(speech, recipe, tmp_path / "none", "--resume"))
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


def test_unknown_names_are_refused_with_a_suggestion(
    cli: Run, speech: Path, run: Path, tmp_path: Path
) -> None:
    evaluate = ("evaluate", run, "--corpus", speech, "--out", tmp_path / "out")
    assert "'overlap' (did you mean 'overlap0'?)" in refused(cli, *evaluate, "--conditions", "overlap")
    assert "needs a noise corpus" in refused(cli, *evaluate, "--conditions", "noise5", "--seconds", 1)
    assert "'json'" not in refused(cli, *evaluate, "--trials", speech / "speaker0" / "none.txt")
    sound = speech / "speaker0" / "0.flac"
    assert ".npz" in refused(cli, "embed", sound, "--model", run, "--out", tmp_path / "e.txt")
    twin = speech / "speaker1" / "0.flac"
    assert "named '0'" in refused(cli, "separate", sound, twin, "--model", run, "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_device_is_refused(cli: Run, speech: Path, recipe: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is there")
    assert "'cuda'" in refused(cli, *train(speech, recipe, tmp_path / "out", "--device", "cuda"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("evaluate-meetings", "base", "--speakers", "2,x"),
            "--speakers '2,x' must be numbers separated by commas",
        ),
        (
            ("evaluate-meetings", "base", "--overlaps", ""),
            "--overlaps '' must be numbers separated by commas",
        ),
        (
            ("evaluate-meetings", "base", "--speakers", "17"),
            "'speakers': Input should be less",
        ),
        (("evaluate-meetings", "base", "--overlaps", "0.8"), "'overlap': overlap is a share"),
    ],
)
def test_impossible_conversation_settings_are_refused(
    cli: Run, speech: Path, words: tuple[str, ...], sentence: str
) -> None:
    assert sentence in refused(cli, *words, "--corpus", speech, "--split", "train")


def test_an_invalid_prior_is_refused_before_processing(cli: Run, run: Path, tmp_path: Path) -> None:
    sound = tmp_path / "a.wav"
    audio.write(sound, hum(0, 0, 3.0), RATE)
    words = ("diarize", sound, "--model", run, "--out", tmp_path / "out", "--prior", "2")
    assert "a prior is a probability between 0 and 1" in refused(cli, *words)
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_created_is_named(cli: Run, speech: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sentence = refused(cli, "corpus", "import", speech, tmp_path / "file" / "cuts.jsonl")
    assert str(tmp_path / "file") in sentence


def test_wrong_usage_exits_with_code_2() -> None:
    each = ["verify", "a", "b", "--model", "m", "--channels", "each"]
    for arguments in (["trian"], ["train"], ["embed", "--modle", "x"], each):
        done = subprocess.run(
            [sys.executable, "-m", "separative", *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert "Error: " in done.stderr


def test_ctrl_c_saves_and_says_so(speech: Path, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = train(speech, recipe, out, "--steps", 1_000_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "separative", *map(str, arguments)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    # The first line of the log is written after the first step; from then on signals are handled.
    while not ((out / "log.jsonl").is_file() and (out / "log.jsonl").stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    # The first line says how the corpus was read.
    assert err.splitlines()[-1].startswith("separative: stopped at step ")
    assert err.count("\n") == 2
    assert (out / "model" / "model.json").is_file()

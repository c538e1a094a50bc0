"""Every command on real files: what it prints, writes and returns."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli_helpers import RATE, Run, hum

from separative import audio, load_corpus, load_model, verify
from separative.training import load_recipe


def test_check_lists_problems_and_sets_the_exit_code(cli: Run, speech: Path, tmp_path: Path) -> None:
    assert cli("corpus", "check", speech).code == 0
    rows = ["path,speaker,seconds"]
    rows += [f"{path},{path.parent.name},1.3" for path in sorted(speech.rglob("*.flac"))]
    (tmp_path / "broken.wav").write_bytes(b"no sound at all")
    (tmp_path / "speech.csv").write_text("\n".join([*rows, "broken.wav,speaker0,1.0"]))
    done = cli("corpus", "check", tmp_path / "speech.csv")
    assert done.code == 1
    assert "broken.wav" in done.out
    assert "1 errors" in done.out
    report = json.loads(cli("corpus", "check", tmp_path / "speech.csv", "--json").out)
    assert [p["kind"] for p in report["problems"] if "broken" in p["where"]] == ["error"]
    assert report["total"]["speakers"] == 6


def test_check_warns_about_a_speaker_with_one_second_of_speech(cli: Run, speech: Path) -> None:
    done = cli("corpus", "check", speech, "--min-speech", 60)
    assert done.code == 0
    assert "speaker3  too little speech" in done.out


def test_import_writes_a_manifest_of_the_same_corpus(cli: Run, speech: Path, tmp_path: Path) -> None:
    assert cli("corpus", "import", speech, tmp_path / "cuts.jsonl.gz").code == 0
    written, read = load_corpus(tmp_path / "cuts.jsonl.gz"), load_corpus(speech)
    assert [(u.id, u.speaker, u.seconds) for u in written] == [(u.id, u.speaker, u.seconds) for u in read]


def test_a_mixture_depends_on_its_index_only(cli: Run, speech: Path, recipe: Path, tmp_path: Path) -> None:
    common = ("mix", "--corpus", speech, "--recipe", recipe, "--seed", 3)
    # By default the first mixture of the last stage: step 3, with 4 mixtures per step.
    assert cli(*common, "--count", 3, "--out", tmp_path / "three").code == 0
    assert cli(*common, "--count", 1, "--first", 13, "--out", tmp_path / "one").code == 0
    stems = sorted(path.stem for path in (tmp_path / "three").glob("*.json"))
    assert stems == ["00000012", "00000013", "00000014"]
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "three" / path.name).read_bytes()
    parts = [audio.read(tmp_path / "one" / f"00000013-{p}.wav")[0] for p in ("mix", "source0", "source1")]
    assert np.abs(parts[0] - parts[1] - parts[2]).max() < 1e-6
    record = json.loads((tmp_path / "one" / "00000013.json").read_text())
    assert (record["seed"], len(record["sources"])) == (3, 2)


def test_mixtures_of_a_failed_step_can_be_written(
    cli: Run, speech: Path, recipe: Path, tmp_path: Path
) -> None:
    common = (
        "--corpus",
        speech,
        "--recipe",
        recipe,
        "--set",
        "optimiser.lr=1e30",
        "--set",
        "optimiser.warmup=0",
    )
    done = cli("train", *common, "--out", tmp_path / "run", "--threads", 1)
    assert done.code == 2 and "is not finite" in done.err
    replay = tmp_path / "run" / "replay.json"
    items = json.loads(replay.read_text())["items"]
    assert cli("mix", "--replay", replay, "--corpus", speech, "--out", tmp_path / "again").code == 0
    assert (
        cli("mix", *common, "--first", items[0], "--count", len(items), "--out", tmp_path / "first").code == 0
    )
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    assert len(list((tmp_path / "again").glob("*-mix.wav"))) == len(items) == 4
    done = cli("mix", "--replay", recipe, "--corpus", speech, "--out", tmp_path / "none")
    assert done.code == 2 and "is not a replay.json" in done.err


def test_train_resumes_with_the_recipe_of_the_run(
    cli: Run, speech: Path, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    common = ("train", "--corpus", speech, "--out", out)
    changed = ("--set", "optimiser.lr=0.002")
    assert cli(*common, "--recipe", recipe, *changed, "--steps", 1, "--threads", 1).code == 0
    assert cli(*common, "--resume", "--steps", 2).code == 0
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert set(steps) == {1, 2}
    card = json.loads(cli("info", out, "--json").out)
    assert card["recipe"]["optimiser"]["lr"] == 0.002
    assert card["training"]["steps"] == 2
    done = cli(*common, "--recipe", recipe, "--resume", "--steps", 3)
    assert (done.code, "optimiser" in done.err) == (2, True)


def test_evaluate_prints_and_saves_the_table(
    cli: Run, other_speakers: Path, run: Path, tmp_path: Path
) -> None:
    common = ("evaluate", run, "--corpus", other_speakers, "--seconds", 1, "--conditions", "clean,overlap0")
    done = cli(*common, "--resamples", 20, "--out", tmp_path)
    assert done.code == 0, done.err
    assert "| model | clean | overlap0 |" in done.out
    models = {line.split(" | ")[0] for line in done.out.splitlines()}
    assert {"| trained", "| untrained", "| MFCC statistics"} <= models
    assert (tmp_path / "eer.png").read_bytes()[:4] == b"\x89PNG"
    record = json.loads((tmp_path / "results.json").read_text())
    # minCllr is fitted to every resample, so with a few speakers its interval can end below its value.
    outside = [row for row in record["rows"] if not row["low"] <= row["value"] <= row["high"]]
    assert {row["metric"] for row in outside} <= {"minCllr"}
    alone = json.loads(cli(*common, "--resamples", 20, "--no-baselines", "--oracle", "--json").out)
    assert alone["settings"]["rows"] == ["trained", "trained (query)"]
    assert "trained (oracle)" in {row["model"] for row in alone["rows"]}
    assert (run / "evaluation-dev" / "results.json").is_file()


def test_embed_separate_and_verify_agree_with_the_api(
    cli: Run, speech: Path, run: Path, tmp_path: Path
) -> None:
    one, two = speech / "speaker0" / "0.flac", speech / "speaker1" / "0.flac"
    done = cli("embed", one, two, "--model", run, "--json", "--out", tmp_path / "e.npz")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    saved = np.load(tmp_path / "e.npz")
    listed = np.array([speaker["embedding"] for recording in said for speaker in recording["speakers"]])
    assert np.allclose(saved["embedding"], listed, atol=1e-6)
    assert np.allclose(np.linalg.norm(listed, axis=1), 1.0, atol=1e-5)

    done = cli("separate", one, "--model", run, "--out", tmp_path / "speakers", "--json")
    [recording] = json.loads(done.out)
    assert [Path(f).name for f in recording["files"]] == [
        f"0-speaker{i}.wav" for i in range(1, len(recording["speakers"]) + 1)
    ]
    assert all(audio.info(f).frames == audio.info(one).frames for f in recording["files"])

    done = cli("verify", one, two, "--model", run, "--json")
    found = verify(load_model(run), one, two)
    assert json.loads(done.out)["score"] == pytest.approx(found.score, abs=1e-6)
    assert f"score {found.score:.4f}" in cli("verify", one, two, "--model", run).out


def test_channels_are_combined_by_the_policy(cli: Run, run: Path, tmp_path: Path) -> None:
    left, right = hum(0, 0, 1.3), hum(1, 0, 1.3)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], axis=1), RATE)
    done = cli("embed", tmp_path / "stereo.wav", "--model", run)
    assert done.code == 0
    assert done.err == f"separative: {tmp_path / 'stereo.wav'}: using the mean of 2 channels\n"


def test_info_shows_models_recipes_audio_files_and_versions(
    cli: Run, speech: Path, run: Path, recipe: Path
) -> None:
    header = json.loads(cli("info", speech / "speaker0" / "0.flac", "--json").out)
    assert (header["rate"], header["channels"], header["seconds"]) == (RATE, 1, 1.3)
    said, names = cli("info", run).out, [f"speech/speaker{i}" for i in range(6)]
    assert "sha256: " in said and "  speaker_count: 6\n" in said and "speaker0" not in said
    assert json.loads(cli("info", run, "--json").out)["data"]["speakers"] == names
    assert json.loads(cli("info", recipe, "--json").out)["mixtures"]["batch"] == 4
    assert json.loads(cli("info", "small", "--json").out) == load_recipe("small").model_dump(mode="json")
    assert "torch: 2." in cli("info").out


def test_embed_writes_a_whole_corpus(cli: Run, run: Path, speech: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra 'bulk'")
    done = cli("embed", "--corpus", speech, "--model", run, "--out", tmp_path / "out")
    assert (done.code, done.out) == (0, f"{tmp_path / 'out'}: 24 recordings in 1 files\n")
    table = parquet.read_table(tmp_path / "out" / "part-000000.parquet")
    speaker_of = {u.id: u.speaker for u in load_corpus(speech)}
    found = zip(table["id"].to_pylist(), table["speaker"].to_pylist(), strict=True)
    assert all(speaker_of[name] == speaker for name, speaker in found)
    assert cli("embed", "--corpus", speech, "--model", run).err == (
        "separative: embed --corpus needs --out FOLDER for the Parquet files\n"
    )
    assert cli("embed", "--model", run).err == (
        "separative: pass audio files to embed, or a corpus with --corpus\n"
    )


def test_report_makes_a_page_of_a_run_and_of_its_results(
    cli: Run, run: Path, other_speakers: Path, tmp_path: Path
) -> None:
    done = cli("report", run, "--out", tmp_path / "run.html", "--corpus", other_speakers)
    assert done.code == 0, done.err
    page = (tmp_path / "run.html").read_text()
    assert "Training" in page and page.count("<audio") == 5
    done = cli("report", tmp_path)
    assert done.code == 2 and "found no run (log.jsonl) and no results (results.json)" in done.err


def test_evaluate_takes_the_trial_lists_that_others_publish(
    cli: Run, other_speakers: Path, run: Path, tmp_path: Path
) -> None:
    pairs = [(i, j) for i in range(10, 16) for j in range(10, 16)]
    voxceleb = [f"{i == j:d} speaker{i}/0.flac speaker{j}/1.flac" for i, j in pairs]
    kaldi = [f"speaker{i}/0 speaker{j}/1 {'target' if i == j else 'nontarget'}" for i, j in pairs]
    scores = []
    for name, lines in (("veri_test", voxceleb), ("trials", kaldi)):
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
        words = ("evaluate", run, "--corpus", other_speakers, "--trials", tmp_path / f"{name}.txt")
        done = cli(*words, "--resamples", 20, "--out", tmp_path / name)
        assert done.code == 0, done.err
        assert "EER" in done.out and str(tmp_path / name / "scores.txt") in done.out
        metrics = {
            row["metric"] for row in json.loads((tmp_path / name / "results.json").read_text())["rows"]
        }
        assert {"EER", "minDCF0.01", "minDCF0.05"} <= metrics
        scores.append([line.split()[3] for line in (tmp_path / name / "scores.txt").read_text().splitlines()])
    assert scores[0] == scores[1] and len(scores[0]) == 36
    done = cli(*words, "--conditions", "clean")
    assert done.code == 2 and "--conditions has no effect" in done.err
    (tmp_path / "text.txt").write_text("no trial list at all\n")
    done = cli("evaluate", run, "--corpus", other_speakers, "--trials", tmp_path / "text.txt")
    assert done.code == 2 and "text.txt, line 1: not a line of a trial list" in done.err

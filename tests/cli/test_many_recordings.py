"""Several recordings: one that fails does not cost the others, and earlier results are not overwritten."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import RATE, Run, hum

from separative import audio
from separative.inference import Recording
from separative.rttm import read_rttm


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    """Two good recordings, a silent one, one that is not audio, and one that is missing."""
    paths = [tmp_path / name for name in ("a.wav", "silent.wav", "text.wav", "missing.wav", "b.wav")]
    audio.write(paths[0], hum(0, 0, 3.0), RATE)
    audio.write(paths[4], hum(1, 0, 3.0), RATE)
    audio.write(paths[1], np.zeros(3 * RATE, np.float32), RATE)
    paths[2].write_text("no sound at all")
    return paths


def lines_about(sources: list[Path], text: str) -> list[str]:
    return [source.name for source in sources if any(str(source) in line for line in text.splitlines())]


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_embed_keeps_the_recordings_that_can_be_read(
    cli: Run, run: Path, sources: list[Path], tmp_path: Path, suffix: str
) -> None:
    done = cli("embed", *sources, "--model", run, "--out", tmp_path / f"e{suffix}", "--json")
    assert done.code == 2
    assert lines_about(sources, done.err) == ["silent.wav", "text.wav", "missing.wav"]
    assert done.err.splitlines()[-1] == "separative: 3 of 5 not done"
    good = [str(sources[0]), str(sources[4])]
    assert [record["recording"] for record in json.loads(done.out)] == good
    if suffix == ".npz":
        with np.load(tmp_path / "e.npz") as stored:
            assert sorted(set(stored["recording"].tolist())) == good
    else:
        assert [r["recording"] for r in json.loads((tmp_path / "e.json").read_text())] == good


def test_separate_keeps_the_recordings_that_can_be_read(
    cli: Run, run: Path, sources: list[Path], tmp_path: Path
) -> None:
    done = cli("separate", *sources, "--model", run, "--out", tmp_path / "out")
    assert done.code == 2
    assert lines_about(sources, done.err) == ["silent.wav", "text.wav", "missing.wav"]
    assert done.err.splitlines()[-1] == "separative: 3 of 5 not done"
    assert {path.name for path in (tmp_path / "out").glob("*.wav")} >= {"a-speaker1.wav", "b-speaker1.wav"}
    assert {path.stem for path in (tmp_path / "out").glob("*.json")} == {"a", "b"}
    assert str(tmp_path / "out" / "b-speaker1.wav") in done.out


def test_recordings_of_over_a_minute_are_separated_and_embedded_beside_short_ones(
    cli: Run, run: Path, sources: list[Path], tmp_path: Path
) -> None:
    long = tmp_path / "long.wav"
    audio.write(long, hum(2, 0, 61.0), RATE)
    done = cli("separate", long, sources[0], "--model", run, "--out", tmp_path / "out", "--strict", "--json")
    assert done.code == 0, done.err
    records = {Path(record["recording"]).stem: record for record in json.loads(done.out)}
    for stem, seconds in (("long", 61.0), ("a", 3.0)):
        assert records[stem]["speakers"] and records[stem]["files"]
        for path in records[stem]["files"]:
            assert audio.info(path).seconds == pytest.approx(seconds, abs=0.01)
    done = cli("embed", sources[0], long, "--model", run, "--out", tmp_path / "e.npz")
    assert done.code == 0 and str(long) in done.out, done.err
    with np.load(tmp_path / "e.npz") as stored:
        assert set(stored["recording"].tolist()) == {str(sources[0]), str(long)}


def test_separate_writes_each_result_before_the_next_recording(
    cli: Run, run: Path, sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from separative import inference

    whole = inference.separate

    def second_is_interrupted(model: object, source: Path, **options: object) -> Recording:
        if source == sources[4]:
            raise KeyboardInterrupt
        return whole(model, source, **options)

    monkeypatch.setattr(inference, "separate", second_is_interrupted)
    assert cli("separate", sources[0], sources[4], "--model", run, "--out", tmp_path / "out").code == 130
    assert (tmp_path / "out" / "a-speaker1.wav").is_file()


def test_an_interrupted_embed_writes_what_it_has(
    cli: Run, run: Path, sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from separative import inference

    whole = inference.embed

    def second_is_interrupted(model: object, source: Path, **options: object) -> Recording:
        if source == sources[4]:
            raise KeyboardInterrupt
        return whole(model, source, **options)

    monkeypatch.setattr(inference, "embed", second_is_interrupted)
    done = cli("embed", sources[0], sources[4], "--model", run, "--out", tmp_path / "e.npz")
    assert done.code == 130 and "1 of 2 are in" in done.err
    with np.load(tmp_path / "e.npz") as stored:
        assert set(stored["recording"].tolist()) == {str(sources[0])}


@pytest.mark.parametrize("verb", ["embed", "separate"])
def test_strict_writes_nothing_if_one_fails(
    cli: Run, run: Path, sources: list[Path], tmp_path: Path, verb: str
) -> None:
    out = tmp_path / "out" / ("e.npz" if verb == "embed" else "")
    for bad in sources[1:4]:
        done = cli(verb, sources[0], bad, "--model", run, "--out", out, "--strict")
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert str(bad) in done.err
        assert not (tmp_path / "out").exists()
    assert cli(verb, sources[0], sources[4], "--model", run, "--out", out, "--strict").code == 0
    assert list((tmp_path / "out").iterdir())


def test_a_corpus_with_bad_recordings_is_embedded_and_the_bad_ones_are_counted(
    cli: Run, run: Path, sources: list[Path], tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra 'bulk'")
    rows = ["path,speaker,seconds", "a.wav,ann,3", "text.wav,ann,3", "b.wav,bob,3"]
    (tmp_path / "speech.csv").write_text("\n".join(rows))
    done = cli("embed", "--corpus", tmp_path / "speech.csv", "--model", run, "--out", tmp_path / "out")
    assert done.code == 2 and "3 recordings in 1 files" in done.out
    assert "1 of 3 not done; the column 'error'" in done.err


def test_a_bad_enrolment_is_found_before_the_long_recording_is_processed(
    cli: Run, run: Path, sources: list[Path], tmp_path: Path
) -> None:
    words = ("diarize", sources[0], "--model", run, "--out", tmp_path / "out")
    done = cli(*words, "--enrol", f"ann={sources[1]}")
    assert done.code == 2 and "silent.wav is silent" in done.err
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_found_before_the_work(
    cli: Run, run: Path, sources: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file" / "e.npz", tmp_path):
        done = cli("embed", tmp_path / "missing.wav", "--model", run, "--out", out)
        assert done.code == 2 and "missing.wav" not in done.err, done.err
    for verb in ("separate", "diarize"):
        done = cli(verb, sources[0], "--model", run, "--out", tmp_path / "file")
        assert done.code == 2 and str(tmp_path / "file") in done.err
    assert (tmp_path / "file").read_bytes() == b""


@pytest.fixture
def calls(tmp_path: Path) -> list[Path]:
    """Two recordings of the same name."""
    paths = [tmp_path / day / "call.wav" for day in ("mon", "tue")]
    for number, path in enumerate(paths):
        audio.write(path, hum(number, 0, 3.0), RATE)
    return paths


@pytest.mark.parametrize("verb", ["diarize", "separate"])
def test_results_of_another_recording_are_not_overwritten(
    cli: Run, run: Path, calls: list[Path], tmp_path: Path, verb: str
) -> None:
    monday, tuesday = calls
    out = tmp_path / "results"
    words = ("--model", run, "--out", out)
    assert cli(verb, monday, *words).code == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    done = cli(verb, tuesday, *words)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert f"(it is of {monday})" in done.err and "--out" in done.err and "--force" in done.err
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    # The same recording may be processed again, also under another path; another one only with --force.
    audio.write(monday.with_name("moved.wav"), *audio.read(monday))
    (tmp_path / "wed").mkdir()
    monday.with_name("moved.wav").rename(tmp_path / "wed" / "call.wav")
    assert cli(verb, tmp_path / "wed" / "call.wav", *words).code == 0
    assert cli(verb, tuesday, *words, "--force").code == 0
    assert json.loads((out / "call.json").read_text())["recording"] == str(tuesday)


def test_waveforms_of_more_speakers_do_not_stay_beside_new_results(
    cli: Run, run: Path, calls: list[Path], tmp_path: Path
) -> None:
    words = ("diarize", calls[0], "--model", run, "--out", tmp_path / "results", "--speakers", 2)
    assert cli(*words).code == 0
    stale, other = (tmp_path / "results" / name for name in ("call-speaker7.wav", "call-speakers.wav"))
    stale.write_bytes(b"")
    other.write_bytes(b"")
    assert cli(*words).code == 0
    assert not stale.exists() and other.exists()


def test_another_name_is_a_way_out(cli: Run, run: Path, calls: list[Path], tmp_path: Path) -> None:
    words = ("--model", run, "--out", tmp_path / "results")
    assert cli("diarize", calls[0], *words).code == 0
    done = cli("diarize", calls[1], *words, "--name", "tuesday")
    assert done.code == 0, done.err
    names = {path.name for path in (tmp_path / "results").glob("tuesday*")}
    assert {"tuesday.rttm", "tuesday.json", "tuesday.png", "tuesday.html", "tuesday-speaker1.wav"} <= names
    assert set(read_rttm(tmp_path / "results" / "tuesday.rttm")) == {"tuesday"}
    assert cli("diarize", calls[1], *words, "--name", "a/b").code == 2


@pytest.mark.parametrize("name", ["call.rttm", "call.json", "call.html", "call-speaker3.wav"])
@pytest.mark.parametrize("verb", ["diarize", "separate"])
def test_other_files_next_to_the_recording_are_not_overwritten(
    cli: Run, run: Path, calls: list[Path], verb: str, name: str
) -> None:
    other = calls[0].with_name(name)
    other.write_text("made by hand")
    done = cli(verb, calls[0], "--model", run, "--out", other.parent)
    assert done.code == 2 and f"{other} exists" in done.err
    assert other.read_text() == "made by hand"
    assert {path.name for path in other.parent.iterdir()} == {"call.wav", name}


def separative(*words: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "separative", *map(os.fspath, words)]  # type: ignore[arg-type]
    return subprocess.run(command, capture_output=True, check=False, env={**os.environ, **(env or {})})


@pytest.mark.skipif(os.name == "nt", reason="file names are UTF-16 on Windows")
def test_file_names_that_are_not_utf8(cli: Run, run: Path, tmp_path: Path) -> None:
    source = tmp_path / os.fsdecode(b"caf\xe9.wav")
    audio.write(source, hum(0, 0, 3.0), RATE)
    done = cli("embed", source, "--model", run, "--out", tmp_path / "e.npz")
    assert (done.code, done.err) == (0, "")
    assert "caf\ufffd.wav" in done.out
    for verb in ("separate", "diarize"):
        done = cli(verb, source, "--model", run, "--out", tmp_path / verb, "--json")
        assert (done.code, done.err) == (0, "")
        json.loads(done.out)
        assert (tmp_path / verb / os.fsdecode(b"caf\xe9-speaker1.wav")).is_file()
    assert cli("verify", source, source, "--model", run).code == 0
    assert cli("verify", source, source, "--model", run, "--json").code == 0
    assert cli("info", source).code == 0
    done = cli("embed", tmp_path / os.fsdecode(b"\xff.wav"), "--model", run)
    assert done.code == 2 and "\ufffd.wav: no such file" in done.err


@pytest.mark.skipif(os.name == "nt", reason="file names are UTF-16 on Windows")
def test_a_corpus_with_a_file_name_that_is_not_utf8(cli: Run, run: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra 'bulk'")
    audio.write(tmp_path / "speech" / "ann" / "1.wav", hum(0, 0, 3.0), RATE)
    audio.write(tmp_path / "speech" / "bob" / os.fsdecode(b"caf\xe9.wav"), hum(1, 0, 3.0), RATE)
    done = cli("embed", "--corpus", tmp_path / "speech", "--model", run, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    ids = parquet.read_table(tmp_path / "out" / "part-000000.parquet")["id"].to_pylist()
    assert "bob/caf\ufffd" in set(ids)


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii", "utf-8"])
def test_output_in_any_encoding(run: Path, tmp_path: Path, encoding: str) -> None:
    source = tmp_path / "Łukasz-é-😀.wav"
    audio.write(source, hum(0, 0, 3.0), RATE)
    env = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = separative("embed", source, "--model", run, env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding).count(".wav") == 2
    done = separative("embed", source, "--model", run, "--json", env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout.decode("utf-8"))[0]["recording"] == str(source)


@pytest.mark.skipif(os.name == "nt", reason="needs a named pipe")
@pytest.mark.parametrize("verb", ["embed", "verify", "diarize"])
def test_a_pipe_is_called_a_pipe(cli: Run, run: Path, tmp_path: Path, verb: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    more = {"embed": [], "verify": [tmp_path / "pipe"], "diarize": ["--out", tmp_path / "out"]}[verb]
    done = cli(verb, tmp_path / "pipe", *more, "--model", run)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"{tmp_path / 'pipe'}: is a pipe or a device, not a file; save the audio" in done.err
    more = {"embed": [], "verify": ["-"], "diarize": ["--out", tmp_path / "out"]}[verb]
    assert "-: standard input is not read here" in cli(verb, "-", *more, "--model", run).err

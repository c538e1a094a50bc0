"""Mistakes that would cost earlier work, or that would only show after the work."""

import sys
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import RATE, Run, hum

from separative import audio


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """Vectors without a teacher."""
    np.savez(tmp_path / "vectors.npz", ids=np.array(["ann", "bob"]), vectors=np.eye(2))
    return tmp_path / "vectors.npz"


def teach(cli: Run, vectors: Path, *words: object, out: object = None, name: str = "T") -> str:
    """The sentence with which `teach` ends."""
    target = vectors.with_name("out.npz") if out is None else out
    done = cli("teach", "--out", target, "--name", name, "--licence", "MIT", "--weights", vectors, *words)
    assert done.code == 2 and "Traceback" not in done.err
    return done.err


def test_teach_does_not_replace_vectors_by_those_of_another_file(cli: Run, vectors: Path) -> None:
    before = vectors.read_bytes()
    assert "vectors.npz exists" in teach(cli, vectors, "--vectors", vectors, out=vectors)
    assert vectors.read_bytes() == before


def test_teach_names_the_wrong_option(cli: Run, vectors: Path) -> None:
    own = ("--vectors", vectors)
    assert "--out 'vectors.txt' must end in .npz or .parquet" in teach(cli, vectors, *own, out="vectors.txt")
    folder = vectors.with_name("folder.npz")
    folder.mkdir()
    assert "folder.npz: is a directory" in teach(cli, vectors, *own, out=folder)
    assert "--name or --licence is wrong: 'name'" in teach(cli, vectors, *own, name="")
    assert "'--rate'" in teach(cli, vectors, *own, "--rate", 0)
    assert "'--piece'" in teach(cli, vectors, *own, "--piece", "nan")
    command = f"{sys.executable} -c 'print {{list}} {{out}}"
    said = teach(cli, vectors, "--system", command, "--corpus", vectors.parent)
    assert "--system has a quotation mark without its partner" in said


def test_a_file_that_is_no_file_of_vectors_is_not_called_a_pickle(cli: Run, vectors: Path) -> None:
    text = vectors.with_name("text.npz")
    text.write_text("ann 1 0")
    said = teach(cli, vectors, "--vectors", text)
    assert "pass .npz with 'ids' and 'vectors'" in said and "pickle" not in said


def test_found_speakers_do_not_replace_the_corpus(cli: Run, run: Path, speech: Path, tmp_path: Path) -> None:
    cuts = tmp_path / "cuts.jsonl"
    assert cli("corpus", "import", speech, cuts).code == 0
    before = cuts.read_bytes()
    done = cli("find-identities", run, "--corpus", cuts, "--out", cuts)
    assert done.code == 2 and "cuts.jsonl belongs to the corpus" in done.err
    assert cuts.read_bytes() == before


def test_found_speakers_need_a_file_name_and_speakers(
    cli: Run, run: Path, speech: Path, tmp_path: Path
) -> None:
    # The name is checked before the model is loaded.
    done = cli("find-identities", "none", "--corpus", speech, "--out", tmp_path / "found.csv")
    assert done.code == 2 and "found.csv' must end in .jsonl or .jsonl.gz" in done.err
    found = tmp_path / "found.jsonl"
    done = cli("find-identities", run, "--corpus", speech, "--out", found, "--smallest", 99)
    assert done.code == 2 and "no speaker was found in 24 recordings" in done.err
    assert not found.exists()


def test_a_pile_of_another_folder_is_not_taken(cli: Run, tmp_path: Path) -> None:
    for name in ("one", "two"):
        audio.write(tmp_path / name / "a.wav", hum(1, 0, 2.5), RATE)
    train = ("train", "--label-free", "--out", tmp_path / "run", "--screen", "none", "--steps", 1)
    # One piece is too few to train, but the pile is kept.
    assert cli(*train, "--corpus", tmp_path / "one", "--set", "run.workers=0").code == 2
    pile = tmp_path / "run-pile.jsonl"
    assert pile.is_file()
    done = cli(*train, "--corpus", tmp_path / "two", "--set", "run.workers=0")
    assert done.code == 2 and "run-pile.jsonl has pieces of another folder" in done.err
    done = cli(*train, "--corpus", tmp_path / "one", "--set", "run.workers=0")
    assert "pieces of an earlier call" in done.out


def test_a_list_of_windows_does_not_replace_the_list_of_recordings(cli: Run, tmp_path: Path) -> None:
    audio.write(tmp_path / "call.wav", hum(1, 0, 6.0), RATE)
    (tmp_path / "call.rttm").write_text("SPEAKER call 1 0 6 <NA> <NA> ann <NA> <NA>\n")
    manifest = tmp_path / "list.csv"
    manifest.write_text("recording,path,rttm\ncall,call.wav,call.rttm\n")
    done = cli("evaluate-recordings", "--recordings", manifest, "--windows", manifest)
    assert done.code == 2 and "list.csv exists" in done.err
    assert manifest.read_text().startswith("recording,path,rttm")


def test_other_files_of_the_same_name_are_not_the_recording(cli: Run, tmp_path: Path) -> None:
    audio.write(tmp_path / "call.wav", hum(1, 0, 6.0), RATE)
    (tmp_path / "call.rttm").write_text("SPEAKER call 1 0 6 <NA> <NA> ann <NA> <NA>\n")
    (tmp_path / "call.json").write_text("{}")
    done = cli(
        *("evaluate-recordings", "--no-model", "--recordings", tmp_path, "--system", f"own={tmp_path}"),
        *("--out", tmp_path / "out"),
    )
    assert done.code == 0, done.err


def test_different_speakers_are_not_given_the_probability_of_being_different(cli: Run, speech: Path) -> None:
    one = speech / "speaker0" / "0.flac"
    said = cli("verify", one, one, "--prior", "1e-12").out
    assert "different speakers: probability of the same " in said


def test_enrolled_recordings_are_not_said_to_be_used_by_channel(cli: Run, tmp_path: Path) -> None:
    wave_N = hum(1, 0, 3.0)
    audio.write(tmp_path / "call.wav", np.stack([wave_N, hum(2, 0, 3.0)]), RATE)
    audio.write(tmp_path / "ann.wav", np.stack([wave_N, wave_N]), RATE)
    done = cli(
        *("diarize", tmp_path / "call.wav", "--out", tmp_path / "out", "--channels", "each", "--no-voices"),
        *("--enrol", f"ann={tmp_path / 'ann.wav'}"),
    )
    assert "call.wav: using each of its 2 channels" in done.err
    assert "ann.wav: using the mean of 2 channels" in done.err
    done = cli("diarize", tmp_path / "call.wav", "--out", tmp_path / "out", "--name", "..")
    assert done.code == 2 and "must be a file name without folders" in done.err

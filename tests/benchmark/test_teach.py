"""A teacher's vectors of a corpus: pieces, resuming, unreadable files, and the command."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from separative.benchmark.adapter import CommandSystem
from separative.benchmark.teach import spans, teach
from separative.cli import main
from separative.corpora.manifest import Corpus, Utterance
from separative.errors import CorpusError, ModelError, SeparativeError
from separative.model.teacher import Teacher, TeacherVectors

RATE = 8000
TEACHER = Teacher(name="mine", licence="MIT", sha256="5f" * 32)
CLOSE = 1e-5  # float32
# Mean and deviation of each waveform; every call adds its number of files to a log.
PROGRAM = """
import sys
import numpy as np
from scipy.io import wavfile
paths = open(sys.argv[1], encoding="utf-8").read().split("\\n")[:-1]
waves = [wavfile.read(path)[1] for path in paths]
np.save(sys.argv[2], np.array([[w.mean(), w.std()] for w in waves], np.float32))
print(len(paths), file=open(sys.argv[3], "a"))
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Five utterances of 1, 2, ... 5 s; the mean of each is its own, and rises along the file."""
    utterances = []
    for number in range(1, 6):
        wave = 0.02 * number + np.linspace(0, 0.1, number * RATE)
        path = tmp_path / f"u{number}.wav"
        soundfile.write(path, wave, RATE, subtype="FLOAT")
        utterances.append(Utterance(f"u{number}", path, float(number), speaker="ann"))
    return Corpus(tuple(utterances))


@pytest.fixture
def system(tmp_path: Path) -> CommandSystem:
    (tmp_path / "embed.py").write_text(PROGRAM)
    words = [sys.executable, str(tmp_path / "embed.py"), "{list}", "{out}", str(tmp_path / "calls")]
    return CommandSystem("mine", words, rate=RATE)


def calls(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "calls").read_text().splitlines()]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (1.5, [(0.0, 1.5)]),
        (2.0, [(0.0, 2.0)]),
        (3.5, [(0.75, 2.0)]),
        (5.0, [(0.0, 2.0), (3.0, 2.0)]),
        (62.0, [(0.0, 2.0), (30.0, 2.0), (60.0, 2.0)]),
    ],
)
def test_pieces_are_spread_evenly(seconds: float, expected: list[tuple[float, float]]) -> None:
    assert spans(Utterance("u", Path("u.wav"), seconds), 2.0) == expected


def test_vector_is_the_mean_of_the_unit_vectors_of_the_pieces(
    system: CommandSystem, corpus: Corpus, tmp_path: Path
) -> None:
    made = teach(system, TEACHER, [corpus], tmp_path / "vectors.npz", seconds=1.0)
    assert made.ids == tuple(u.id for u in corpus)
    for utterance, vector in zip(corpus, made.vectors, strict=True):
        wave, _ = soundfile.read(utterance.path)
        pieces = [wave[round(a * RATE) : round((a + n) * RATE)] for a, n in spans(utterance, 1.0)]
        rows = np.array([[piece.mean(), piece.std()] for piece in pieces])
        mean = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(0)
        assert np.allclose(vector, mean / np.linalg.norm(mean), atol=CLOSE)
    loaded = TeacherVectors.load(tmp_path / "vectors.npz")
    assert loaded.sha256 == made.sha256
    assert calls(tmp_path) == [1 + 2 + 3 * 3]


def test_interrupted_run_continues_with_what_is_left(
    system: CommandSystem, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "batch", 2)
    out = tmp_path / "vectors.npz"

    def stop(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teach(system, TEACHER, [corpus], out, progress=stop)
    assert not out.exists()
    made = teach(system, TEACHER, [corpus], out)
    assert calls(tmp_path) == [2, 2, 1]
    assert sorted(path.name for path in tmp_path.glob("vectors*")) == ["vectors.npz"]
    whole = teach(system, TEACHER, [corpus], tmp_path / "whole.npz")
    assert whole.sha256 == made.sha256
    # A finished file is not computed again, and new utterances are added to it.
    before = len(calls(tmp_path))
    teach(system, TEACHER, [corpus], out)
    assert len(calls(tmp_path)) == before
    other = TEACHER.model_copy(update={"name": "theirs"})
    with pytest.raises(ModelError, match="was made by the teacher 'mine', not by 'theirs'"):
        teach(system, other, [corpus], out)


def test_unreadable_utterance_gets_no_vector(
    system: CommandSystem, corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus.utterances[1].path.write_bytes(b"no sound")
    made = teach(system, TEACHER, [corpus], tmp_path / "vectors.npz")
    assert made.ids == ("u1", "u3", "u4", "u5")
    assert "1 of 5 utterances have no vector" in caplog.text


def test_ids_must_be_unique_over_all_corpora(system: CommandSystem, corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="two utterances have the id 'u1'"):
        teach(system, TEACHER, [corpus, corpus], tmp_path / "vectors.npz")
    with pytest.raises(SeparativeError, match=r"between 0\.1 and 60"):
        teach(system, TEACHER, [corpus], tmp_path / "vectors.npz", seconds=0.0)


def test_command_computes_and_converts_vectors(
    system: CommandSystem, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"weights")
    about = ["--name", "mine", "--licence", "MIT", "--weights", str(weights)]
    folder = tmp_path / "speech" / "ann"
    folder.mkdir(parents=True)
    for utterance in corpus:
        utterance.path.rename(folder / utterance.path.name)
    speech, out = str(tmp_path / "speech"), str(tmp_path / "out.npz")
    command = " ".join(system.command)
    given = ["teach", *about, "--system", command, "--corpus", speech, "--out", out, "--rate", str(RATE)]
    assert main(given) == 0
    assert "5 vectors of 2 values by mine (MIT)" in capsys.readouterr().out
    np.savez(tmp_path / "plain.npz", ids=np.array(["a", "b"]), vectors=np.eye(2))
    plain = ["--vectors", str(tmp_path / "plain.npz"), "--out", str(tmp_path / "named.npz")]
    assert main(["teach", *about, *plain]) == 0
    assert TeacherVectors.load(tmp_path / "named.npz").teacher.name == "mine"
    for wrong in (["--out", out], [*plain, "--system", command], ["--system", command, "--out", out]):
        assert main(["teach", *about, *wrong]) != 0


def test_every_speed_is_embedded_once(corpus: Corpus, system: CommandSystem, tmp_path: Path) -> None:
    out = tmp_path / "vectors.npz"
    teach(system, TEACHER, [corpus], out, seconds=2.0)
    made = teach(system, TEACHER, [corpus], out, seconds=2.0, speeds=(1.0, 1.25))
    names = [u.id for u in corpus]
    assert sorted(made.ids) == sorted([*names, *(f"{name}@1.25" for name in names)])
    # 1 + 1 + 1 + 2 + 2 pieces of 2 s, and at speed 1.25, where speech is shorter, 1 + 1 + 1 + 1 + 2.
    assert sum(calls(tmp_path)) == 13
    with pytest.raises(SeparativeError, match="different factors"):
        teach(system, TEACHER, [corpus], out, speeds=(1.0, 1.0))

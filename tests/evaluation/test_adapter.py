"""Commands as systems: real programs on real wave files, and everything that such programs do wrong."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from separative.benchmark.adapter import CommandSystem
from separative.errors import SeparativeError
from separative.evaluation.systems import SystemOutput, scores

README = Path(__file__).parents[2] / "systems" / "README.md"
RATE = 8000
ROUNDING = 1e-6

HEAD = """
import sys
import numpy as np
from scipy.io import wavfile
paths = open(sys.argv[1], encoding="utf-8").read().split("\\n")[:-1]
waves = [wavfile.read(path)[1] for path in paths]
assert all(wavfile.read(path)[0] == 8000 for path in paths)
statistics = np.array([[w.mean(), w.std(), np.abs(w).max(), len(w)] for w in waves], np.float32)
"""


@pytest.fixture
def program(tmp_path):
    """A system around a script that starts with the statistics of the waves it is given."""

    def make(body: str, **options) -> CommandSystem:
        path = tmp_path / "embed.py"
        path.write_text(HEAD + body, encoding="utf-8")
        return CommandSystem("theirs", [sys.executable, str(path), "{list}", "{out}"], rate=RATE, **options)

    return make


@pytest.fixture
def waves():
    rng = np.random.default_rng(0)
    # Beyond full scale on purpose: a mixture may be, and must arrive as it is.
    return [
        (g * rng.standard_normal(n)).astype(np.float32) for g, n in ((0.1, 800), (3.0, 1200), (1e-4, 900))
    ]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_samples_arrive_as_they_are_and_embeddings_come_back_as_directions(program, waves):
    found = program("np.save(sys.argv[2], statistics)")(waves)
    expected = np.array([[w.mean(), w.std(), np.abs(w).max(), len(w)] for w in waves], np.float32)
    for (voices,), row in zip(found, expected, strict=True):
        assert voices.embedding_CE.dtype == np.float32
        assert voices.active_C.tolist() == [True]
        np.testing.assert_allclose(voices.embedding_CE, unit(row)[None], atol=ROUNDING)


def test_a_missing_candidate_changes_no_trial(program, waves):
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((3, 2, 5)).astype(np.float32)
    rows[0, 0] = rows[2, 1] = np.nan
    body = f"np.save(sys.argv[2], np.array({rows.tolist()}, np.float32))"
    found = [voices for (voices,) in program("nan = np.nan\n" + body)(waves)]
    assert [v.active_C.tolist() for v in found] == [[True, False], [True, True], [True, False]]
    np.testing.assert_allclose(found[0].embedding_CE[0], unit(rows[0, 1]), atol=ROUNDING)
    enrolled = [SystemOutput(unit(rng.standard_normal((1, 5))).astype(np.float32), np.array([True]))]
    for active_only in (True, False):
        got = scores(enrolled, found, active_only=active_only)[0]
        for score, some in zip(got, rows, strict=True):
            there = some[~np.isnan(some[:, 0])]
            assert score == pytest.approx((unit(there) @ enrolled[0].embedding_CE[0]).max(), abs=ROUNDING)


def test_time_and_audio_are_counted_and_files_are_kept_on_request(program, waves, tmp_path):
    system = program("np.save(sys.argv[2], statistics)", folder=tmp_path / "kept")
    assert np.isnan(system.real_time_factor)
    system(waves)
    system(waves[:1])
    assert system.audio_seconds == pytest.approx((800 + 1200 + 900 + 800) / RATE)
    assert system.real_time_factor == pytest.approx(system.seconds / system.audio_seconds)
    kept = np.load(tmp_path / "kept" / "embeddings.npy")
    assert kept.shape == (1, 4)
    assert (tmp_path / "kept" / "list.txt").read_text(encoding="utf-8").splitlines() == [
        str((tmp_path / "kept" / "000000.wav").resolve())
    ]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("sys.exit('out of luck')", "status 1: out of luck"),
        ("raise RuntimeError('no such model')", "status 1: RuntimeError: no such model"),
        ("sys.exit(3)", "status 3: without a word"),
        ("pass", "wrote no {out}"),
        ("open(sys.argv[2], 'w').write('1 2 3')", "no .npy array"),
        ("np.save(sys.argv[2], np.array([{}], object))", "no .npy array"),
        ("np.save(sys.argv[2], statistics.astype(int))", "must be floats"),
        ("np.save(sys.argv[2], statistics[0])", "must be floats"),
        ("np.save(sys.argv[2], statistics[1:])", "2 embeddings for 3 wave files"),
        ("np.save(sys.argv[2], statistics[:, :0])", "1 candidates x 0 numbers a file"),
        ("statistics[1] = np.nan; np.save(sys.argv[2], statistics)", "no embedding of wave file 1"),
        ("statistics[2, 1] = np.nan; np.save(sys.argv[2], statistics)", "wave file 2 .* NaN or infinite"),
        ("statistics[0, 0] = np.inf; np.save(sys.argv[2], statistics)", "wave file 0 .* infinite"),
        ("np.save(sys.argv[2], 0 * statistics)", "wave file 0 is zero"),
    ],
)
def test_what_a_program_does_wrong_is_said_in_one_sentence(program, waves, body, said):
    with pytest.raises(SeparativeError, match=f"theirs: .*{said}") as caught:
        program(body)(waves)
    assert "\n" not in str(caught.value)


def test_another_size_than_before_is_refused(program, waves):
    system = program("np.save(sys.argv[2], statistics if len(waves) == 3 else statistics[:, :2])")
    system(waves)
    with pytest.raises(SeparativeError, match="1 candidates x 2 numbers a file, not 1 x 4 as before"):
        system(waves[:2])


def test_a_command_that_is_no_command(waves, tmp_path):
    with pytest.raises(SeparativeError, match=r"theirs: the command has no \{out\}"):
        CommandSystem("theirs", ["embed", "{list}"])
    with pytest.raises(SeparativeError, match="cannot be run: No such file"):
        CommandSystem("theirs", [str(tmp_path / "nothing"), "{list}", "{out}"])(waves)


def test_the_readme_shows_a_system_and_how_to_run_it(tmp_path, monkeypatch):
    first, whole = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    known: dict[str, CommandSystem] = {}
    exec(compile(first, str(README), "exec"), known)
    (tmp_path / "my_embed.py").write_text(whole, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    system = known["system"]
    system.command = (sys.executable, *system.command[1:])
    time = np.arange(16000) / 16000
    noise = 0.01 * np.random.default_rng(0).standard_normal((4, 16000))
    tones = [np.sin(2 * np.pi * hertz * time) for hertz in (500, 500, 3000, 3000)]
    waves = [(tone + some).astype(np.float32) for tone, some in zip(tones, noise, strict=True)]
    found = [voices for (voices,) in system(waves)]
    likeness = scores(found, found, active_only=True)
    assert likeness[0, 1] > 0.95 > likeness[0, 2]
    assert likeness[2, 3] > 0.95

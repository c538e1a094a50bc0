"""External commands as systems: real programs on real wave files, and the errors of such programs."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from separative.benchmark.adapter import CommandSystem
from separative.errors import SeparativeError
from separative.evaluation.systems import SystemOutput, score_matrix

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
    """Builds a system from a script that computes statistics of the waveforms and then runs ``body``."""

    def make(body: str, **options) -> CommandSystem:
        path = tmp_path / "embed.py"
        path.write_text(HEAD + body, encoding="utf-8")
        return CommandSystem("theirs", [sys.executable, str(path), "{list}", "{out}"], rate=RATE, **options)

    return make


@pytest.fixture
def waves():
    rng = np.random.default_rng(0)
    # One waveform exceeds full scale: mixtures may do so, and must not be clipped.
    return [
        (g * rng.standard_normal(n)).astype(np.float32) for g, n in ((0.1, 800), (3.0, 1200), (1e-4, 900))
    ]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_samples_are_passed_unchanged_and_embeddings_are_normalised(program, waves):
    found = program("np.save(sys.argv[2], statistics)")(waves)
    expected = np.array([[w.mean(), w.std(), np.abs(w).max(), len(w)] for w in waves], np.float32)
    for (output,), row in zip(found, expected, strict=True):
        assert output.embeddings.dtype == np.float32
        assert output.active.tolist() == [True]
        np.testing.assert_allclose(output.embeddings, unit(row)[None], atol=ROUNDING)


def test_missing_candidates_do_not_change_scores(program, waves):
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((3, 2, 5)).astype(np.float32)
    rows[0, 0] = rows[2, 1] = np.nan
    body = f"np.save(sys.argv[2], np.array({rows.tolist()}, np.float32))"
    found = [output for (output,) in program("nan = np.nan\n" + body)(waves)]
    assert [output.active.tolist() for output in found] == [[True, False], [True, True], [True, False]]
    np.testing.assert_allclose(found[0].embeddings[0], unit(rows[0, 1]), atol=ROUNDING)
    enrolled = [SystemOutput(unit(rng.standard_normal((1, 5))).astype(np.float32), np.array([True]))]
    for active_only in (True, False):
        got = score_matrix(enrolled, found, active_only=active_only)[0]
        for score, some in zip(got, rows, strict=True):
            there = some[~np.isnan(some[:, 0])]
            assert score == pytest.approx((unit(there) @ enrolled[0].embeddings[0]).max(), abs=ROUNDING)


def test_processing_time_and_audio_are_counted_and_files_are_kept_on_request(program, waves, tmp_path):
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
        ("sys.exit('out of luck')", "exit code 1: out of luck"),
        ("raise RuntimeError('no such model')", "exit code 1: RuntimeError: no such model"),
        ("sys.exit(3)", "exit code 3: no message"),
        ("pass", "did not write {out}"),
        ("open(sys.argv[2], 'w').write('1 2 3')", "not a .npy array"),
        ("np.save(sys.argv[2], np.array([{}], object))", "not a .npy array"),
        ("np.save(sys.argv[2], statistics.astype(int))", "must be floats"),
        ("np.save(sys.argv[2], statistics[0])", "must be floats"),
        ("np.save(sys.argv[2], statistics[1:])", "2 embeddings for 3 WAV files"),
        ("np.save(sys.argv[2], statistics[:, :0])", "1 candidates x 0 values per file"),
        ("statistics[1] = np.nan; np.save(sys.argv[2], statistics)", "no embedding of WAV file 1"),
        ("statistics[2, 1] = np.nan; np.save(sys.argv[2], statistics)", "WAV file 2 .* NaN or infinite"),
        ("statistics[0, 0] = np.inf; np.save(sys.argv[2], statistics)", "WAV file 0 .* infinite"),
        ("np.save(sys.argv[2], 0 * statistics)", "WAV file 0 is all zeros"),
    ],
)
def test_errors_of_a_program_are_one_line(program, waves, body, said):
    with pytest.raises(SeparativeError, match=f"theirs: .*{said}") as caught:
        program(body)(waves)
    assert "\n" not in str(caught.value)


def test_a_change_of_the_embedding_size_raises_an_error(program, waves):
    system = program("np.save(sys.argv[2], statistics if len(waves) == 3 else statistics[:, :2])")
    system(waves)
    with pytest.raises(SeparativeError, match="1 candidates x 2 values per file, not 1 x 4 as before"):
        system(waves[:2])


def test_invalid_commands_raise_an_error(waves, tmp_path):
    with pytest.raises(SeparativeError, match=r"theirs: the command must contain \{out\}"):
        CommandSystem("theirs", ["embed", "{list}"])
    with pytest.raises(SeparativeError, match=r"cannot run .*: No such file"):
        CommandSystem("theirs", [str(tmp_path / "nothing"), "{list}", "{out}"])(waves)


def test_the_example_in_the_readme_of_systems_works(tmp_path, monkeypatch):
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
    waves = [(tone + hiss).astype(np.float32) for tone, hiss in zip(tones, noise, strict=True)]
    found = [output for (output,) in system(waves)]
    similarity = score_matrix(found, found, active_only=True)
    assert similarity[0, 1] > 0.95 > similarity[0, 2]
    assert similarity[2, 3] > 0.95

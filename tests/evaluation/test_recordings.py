"""Evaluation of a model and of other systems on recordings, and all that can be wrong with these."""

import json
from pathlib import Path

import numpy as np
import pytest
from real_helpers import noise, write_manifest, write_recording

from separative import audio
from separative.errors import CorpusError, SeparativeError
from separative.evaluation import Results, evaluate_recordings, recordings_page, write_windows
from separative.evaluation.oracles import shared_segments, with_true_speech
from separative.evaluation.recordings import NUMBER_KNOWN, TRUE_SPEAKERS, TRUE_SPEECH
from separative.evaluation.references import read_references
from separative.evaluation.rttm_system import RttmSystem
from separative.inference.windows import WindowGrid, WindowOutputs
from separative.model import SeparativeEncoder
from separative.rttm import Turn, write_rttm

ANN, BOB = Turn("ann", 0.0, 5.0), Turn("bob", 5.0, 10.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings, and the answers of a system that is perfect on the first."""
    folder = tmp_path_factory.mktemp("real")
    write_recording(folder, "a", [ANN, BOB])
    write_recording(folder, "b", [ANN], wave=noise(10.0, seed=1))
    write_manifest(folder, "a", "b")
    answers = folder / "answers"
    answers.mkdir()
    write_rttm(answers / "a.rttm", "a", [Turn("x", 0.0, 5.0), Turn("y", 5.0, 10.0)])
    write_rttm(answers / "b.rttm", "b", [])
    return folder


@pytest.fixture(scope="module")
def results(folder: Path, model: SeparativeEncoder) -> Results:
    return evaluate_recordings(
        model, folder / "list.csv", name="tiny", systems={"other": folder / "answers"}, resamples=20
    )


def test_a_model_and_its_variants_and_another_system_are_in_one_table(results: Results) -> None:
    models = list(dict.fromkeys(row.model for row in results.rows))
    assert models == [
        "tiny",
        *(f"tiny, {variant}" for variant in (NUMBER_KNOWN, TRUE_SPEECH, TRUE_SPEAKERS)),
        "other",
        f"other, {TRUE_SPEECH}",
    ]
    conditions = dict.fromkeys(row.condition for row in results.rows)
    assert list(conditions) == ["all recordings", "call", "a", "b"]
    assert results.settings["failed"] == []


def test_another_system_is_scored_as_its_files_say(results: Results) -> None:
    by_name = {c: results.find("DER", c, model="other", corpus="by recording").value for c in "ab"}
    assert by_name == {"a": 0.0, "b": 100.0}
    assert results.find("DER", "all recordings", model="other").value == pytest.approx(100 / 3)
    known = results.find("DER", "all recordings", model=f"other, {TRUE_SPEECH}")
    assert known.value == 0.0


def test_true_speech_leaves_no_error_of_speech_and_the_true_number_no_more_speakers(results: Results) -> None:
    assert results.find("DER speech", "all recordings", model=f"tiny, {TRUE_SPEECH}").value == 0
    for condition in "ab":
        row = results.find("count error", condition, model=f"tiny, {NUMBER_KNOWN}", corpus="by recording")
        assert row.value <= 0


def test_time_memory_and_window_trials_of_the_model_are_measured(results: Results) -> None:
    assert 0 < results.find("real-time factor", "all recordings").value < 100
    assert 10 < results.find("peak memory", "all recordings").value < 100_000
    # Recording b has one speaker, so all pairs with different speakers are in a.
    assert 0 <= results.find("window EER", "a", corpus="by recording").value <= 100
    with pytest.raises(SeparativeError, match="no window EER"):
        results.find("window EER", "b", corpus="by recording")


def test_the_page_states_every_recording_and_system(results: Results) -> None:
    page = recordings_page(results)
    assert page.count("\n| a | call | 10 | 10 | 2 |") == page.count("\n| b | call | 10 | 5 | 1 |") == 2
    assert "| other | 2 | 33.3 (" in page


def test_results_survive_their_file(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path, text=recordings_page(results), figures={})
    assert Results.load(tmp_path).rows == results.rows
    assert (tmp_path / "results.md").read_text() == recordings_page(Results.load(tmp_path))


@pytest.mark.parametrize("wave", [noise(0.3), np.zeros(48_000, np.float32)], ids=["0.3 s", "silence"])
def test_in_a_very_short_or_silent_recording_no_speaker_is_found(
    tmp_path: Path, model: SeparativeEncoder, wave: np.ndarray
) -> None:
    write_recording(tmp_path, "a", [Turn("ann", 0.0, 0.3)], wave=wave)
    results = evaluate_recordings(model, tmp_path, resamples=5)
    assert results.settings["failed"] == []
    assert results.find("missed", "a", corpus="by recording").value == 100
    assert results.find("count error", "a", corpus="by recording").value == -1


def test_a_recording_without_speech_has_false_alarms_only(tmp_path: Path, model: SeparativeEncoder) -> None:
    write_recording(tmp_path, "a", [])
    write_recording(tmp_path, "b", [ANN, BOB])
    results = evaluate_recordings(model, tmp_path, resamples=5)
    assert {row.metric for row in results.rows if row.condition == "a"}.isdisjoint({"DER", "JER"})
    alone = results.find("false alarm", "b", corpus="by recording").value
    assert results.find("false alarm", "all recordings").value >= alone
    for variant in (NUMBER_KNOWN, TRUE_SPEECH, TRUE_SPEAKERS):
        row = results.find("count error", "a", model=f"base, {variant}", corpus="by recording")
        assert row.value == 0


def test_one_damaged_recording_is_named_and_the_others_are_scored(
    tmp_path: Path, model: SeparativeEncoder
) -> None:
    write_recording(tmp_path, "a", [ANN])
    write_recording(tmp_path, "b", [ANN])
    (tmp_path / "b.wav").write_bytes(b"not audio")
    write_rttm(tmp_path / "c.rttm", "d", [ANN])
    audio.write(tmp_path / "c.wav", noise(10.0), 8000)
    results = evaluate_recordings(model, tmp_path, resamples=5)
    assert [r["name"] for r in results.settings["recordings"]] == ["a"]
    first, second = results.settings["failed"]
    assert first.startswith("b: ") and "b.wav" in first
    assert "c.rttm has turns of d, but none of 'c'" in second
    (tmp_path / "a.wav").unlink()
    with pytest.raises(CorpusError, match="no recording can be used"):
        evaluate_recordings(model, tmp_path, resamples=5)


def test_an_answer_that_is_missing_is_named_and_not_counted(folder: Path, tmp_path: Path) -> None:
    write_rttm(tmp_path / "a.rttm", "a", [ANN])
    results = evaluate_recordings(None, folder / "list.csv", systems={"other": tmp_path}, resamples=5)
    [failed] = results.settings["failed"]
    assert failed.startswith("b, other: ") and "b.rttm" in failed
    assert results.find("DER", "all recordings").trials == 1
    assert "\n- b, other: " in recordings_page(results)


def test_embeddings_of_windows_and_costs_are_read_from_the_folder(folder: Path, tmp_path: Path) -> None:
    for name in "ab":
        write_rttm(tmp_path / f"{name}.rttm", name, [])
    recordings, _ = read_references(folder / "list.csv")
    count = write_windows(recordings, tmp_path / "windows.csv")
    _, *lines = (tmp_path / "windows.csv").read_text().splitlines()
    assert len(lines) == count
    names, speakers = zip(*((line.split(",")[0], line.split(",")[-1]) for line in lines), strict=True)
    embedding = np.array([[1.0, 0.1] if speaker == "ann" else [0.1, 2.0] for speaker in speakers])
    # The order does not matter, and other windows are ignored.
    np.savez(
        tmp_path / "windows.npz",
        window=np.array(["unknown", *names[::-1]]),
        embedding=np.concatenate([[[9.0, 9.0]], embedding[::-1]]).astype(np.float32),
    )
    costs = {"a": {"seconds": 3.0, "peak_memory_mb": 200.0}, "b": {"seconds": 1.2, "peak_memory_mb": 300}}
    (tmp_path / "cost.json").write_text(json.dumps(costs))
    results = evaluate_recordings(None, folder / "list.csv", systems={"other": tmp_path}, resamples=5)
    assert results.find("window EER", "all recordings").value == 0
    assert results.find("window EER, all pairs", "all recordings").value == 0
    assert results.find("real-time factor", "all recordings").value == pytest.approx(4.2 / 20)
    assert results.find("peak memory", "all recordings").value == 300
    np.savez(tmp_path / "windows.npz", window=np.array(names[1:]), embedding=embedding[1:])
    [failed] = evaluate_recordings(None, folder, systems={"other": tmp_path}, resamples=5).settings["failed"]
    assert f"no embedding of window '{names[0]}'" in failed


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("windows.npz", b"damaged", "not a file with the arrays 'window'"),
        ("cost.json", b"[1]", "must have the numbers 'seconds'"),
        ("cost.json", b'{"a": {"second": 1}}', "'a' must have the numbers 'seconds'"),
        ("cost.json", b'{"a": {"seconds": "1"}}', "'a' must have the numbers 'seconds'"),
    ],
)
def test_damaged_files_of_a_system_are_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SeparativeError, match=message):
        RttmSystem(tmp_path)


def test_a_missing_folder_two_equal_names_and_no_system_are_refused(
    folder: Path, model: SeparativeEncoder
) -> None:
    manifest = folder / "list.csv"
    with pytest.raises(SeparativeError, match="no such folder"):
        evaluate_recordings(None, manifest, systems={"other": folder / "none"})
    with pytest.raises(SeparativeError, match="two systems are named 'base'"):
        evaluate_recordings(model, manifest, systems={"base": folder / "answers"})
    with pytest.raises(SeparativeError, match="nothing to evaluate"):
        evaluate_recordings(None, manifest)


def test_true_speech_keeps_the_speakers_and_fills_with_the_nearest() -> None:
    found = np.zeros((2, 10), bool)
    found[0, 1:3] = found[1, 2:4] = found[1, 8] = True
    speech = np.ones(10, bool)
    speech[[0, 2]] = False
    expected = np.zeros((2, 10), bool)
    expected[0, 1] = expected[1, 3:] = True
    np.testing.assert_array_equal(with_true_speech(found, speech), expected)
    np.testing.assert_array_equal(with_true_speech(np.zeros((0, 10), bool), speech), speech[None])


def test_streams_of_shifted_windows_are_compared_at_the_times_of_the_recording() -> None:
    # Windows of 4 segments of 0.1 s, every 2 segments; in a recording of 0.8 s, bob follows ann.
    reference_KT = np.zeros((2, 80), bool)
    reference_KT[0, :40] = reference_KT[1, 40:] = True
    shared = []
    for offset in (0, 200):
        grid = WindowGrid(segment=100, lead=0, window=4, hop=2)
        activity_WCS = np.ones((3 + offset // 200, 1, 4), np.float32)
        empty = np.zeros((len(activity_WCS), 4), np.float32)
        outputs = WindowOutputs(
            grid,
            activity_WCS,
            np.zeros((len(empty), 1, 2)),
            np.zeros((1, 2)),
            np.zeros(1),
            empty,
            800,
            offset,
        )
        shared.append(shared_segments(outputs, 1000, reference_KT)[:, 0].tolist())
    assert shared[0] == [[4, 0], [2, 2], [0, 4]]
    assert shared[1] == [[2, 0], [4, 0], [2, 2], [0, 4]]


def test_all_real_recordings_have_references(data: Path) -> None:
    recordings, failed = read_references(data / "meetings.csv")
    assert failed == [] and len(recordings) == 11
    assert all(recording.reference.any() for recording in recordings)

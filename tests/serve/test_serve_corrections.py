"""Corrections of speakers and turns: the rules, and everything that follows them over HTTP."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from serve_helpers import RunningServer

from separative.errors import SeparativeError
from separative.serve.corrections import Corrections, Piece, gain, sources

# Two speakers: the first speaks from 0 to 2 and from 5 to 9 s, the second from 1 to 4 s.
FOUND = Corrections((0, 1), ("", ""), (Piece(0, 0.0, 2.0, 0), Piece(1, 1.0, 4.0, 1), Piece(0, 5.0, 9.0, 0)))


def spans(corrections: Corrections, speaker: int) -> list[tuple[float, float]]:
    return [(turn.start, turn.end) for turn in corrections.turns(speaker)]


def test_a_merged_speaker_has_the_turns_and_the_name_of_both() -> None:
    merged = FOUND.rename(1, "Ann").merge(1, 0)
    assert merged.speakers == (0,) and merged.names == ("Ann", "")
    # Turns that overlap become one.
    assert spans(merged, 0) == [(0.0, 4.0), (5.0, 9.0)] and sources(merged, 0) == [0, 1]


def test_a_split_turn_can_be_given_to_a_new_speaker() -> None:
    split = FOUND.split(0, 1, 7.0)
    assert spans(split, 0) == [(0.0, 2.0), (5.0, 7.0), (7.0, 9.0)]
    given = split.assign(0, 2, None)
    assert given.speakers == (0, 1, 2) and spans(given, 2) == [(7.0, 9.0)]
    # All of the speech that was found belongs to someone, with a fade at the split.
    time = np.linspace(0, 12, 500)
    total = sum(np.interp(time, *gain(given, 0, speaker)) for speaker in range(3))
    assert np.allclose(total, 1)
    assert np.interp([6.9, 7.1, 8.9, 10.0], *gain(given, 0, 2)).tolist() == [0, 1, 1, 0]
    # A speaker without turns is gone.
    assert FOUND.assign(1, 0, 0).speakers == (0,)


@pytest.mark.parametrize(
    ("correction", "words"),
    [
        (lambda: FOUND.merge(0, 0), "with itself"),
        (lambda: FOUND.merge(0, 5), "no speaker 6"),
        (lambda: FOUND.split(0, 0, 3.0), "not inside the turn from 0.00 to 2.00 s"),
        (lambda: FOUND.split(0, 0, 0.05), "not inside"),
        (lambda: FOUND.assign(1, 3, 0), "has 1 turns, no turn 4"),
        (lambda: FOUND.rename(0, "Ann").rename(1, "Ann"), "merge the two"),
    ],
)
def test_impossible_corrections_are_refused(correction, words: str) -> None:
    with pytest.raises(SeparativeError, match=words):
        correction()


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 5), st.floats(0, 9)), max_size=8)
)
def test_no_correction_loses_speech_or_doubles_it(actions) -> None:
    corrections = FOUND
    for kind, first, second, at in actions:
        try:
            corrections = (
                corrections.merge(first, second)
                if kind == 0
                else corrections.split(first, second, at)
                if kind == 1
                else corrections.assign(first, second, None if at < 3 else round(at) - 3)
            )
        except SeparativeError:
            continue
    assert sum(p.end - p.start for p in corrections.pieces) == pytest.approx(9.0)
    time = np.linspace(0, 10, 301)
    for found in (0, 1):
        total = sum(np.interp(time, *gain(corrections, found, k)) for k in range(len(corrections.names)))
        assert np.allclose(total, 1)


def waveforms(server: RunningServer, job: dict, result: dict) -> list[np.ndarray]:
    return [
        soundfile.read(
            io.BytesIO(server.client.get(f"/api/jobs/{job['id']}/speakers/{s['number']}.wav").content)
        )[0]
        for s in result["speakers"]
    ]


def test_waveforms_files_and_voiceprints_follow_the_corrections(start_server, record) -> None:
    server: RunningServer = start_server()
    job = server.run("diarize", recording=server.upload(record("serve-correct.wav", 8.0, 1)), speakers=1)
    url, result, before = f"/api/jobs/{job['id']}", job["result"], None
    before = waveforms(server, job, result)

    def correct(status: int = 200, **body: object) -> dict:
        response = server.client.post(
            f"{url}/corrections", json={"revision": result["revision"], "speaker": 1} | body
        )
        assert response.status_code == status, response.text
        return response.json()

    start, end = result["speakers"][0]["turns"][0]
    result = correct(action="split", turn=1, at=(start + end) / 2)
    result = correct(action="assign", turn=2)
    assert [speaker["number"] for speaker in result["speakers"]] == [1, 2] and result["corrections"] == 2
    assert result["speakers"][1]["confidence"] == [None]
    after = waveforms(server, job, result)
    assert np.allclose(sum(after), before[0], atol=1e-4) and np.abs(after[1]).max() > 0.001
    assert not np.abs(after[1])[: int(8000 * ((start + end) / 2 - 0.05))].any()
    result = correct(action="rename", name=" Zoë ")
    assert result["speakers"][0]["name"] == "Zoë" and result["speakers"][0]["named"] == "given"
    assert "merge the two" in correct(422, action="rename", speaker=2, name="Zoë")["detail"]
    for format, words in {
        "rttm": b"Zo\xc3\xab <NA>",
        "srt": b"Zo\xc3\xab",
        "textgrid": b'name = "speaker2"',
        "csv": b"speaker2",
        "eaf": b'PARTICIPANT="speaker2"',
        "vtt": b"<v speaker2>",
        "audacity": b"\tspeaker2",
        "json": b'"speaker2"',
    }.items():
        assert words in server.client.get(f"{url}/meeting.{format}").content, format
    assert server.client.get(f"{url}/meeting.doc").status_code == 404
    saved = server.client.get(f"{url}/speakers/1.wav?save=true").headers["content-disposition"]
    assert "serve-correct-Zo%C3%AB.wav" in saved

    # The new speaker is enrolled with their own embedding.
    enrolled = server.client.post(f"{url}/speakers/2/enrol", json={"name": "Bo", "force": True})
    assert enrolled.status_code == 201, enrolled.text
    result = server.client.post(f"{url}/identify").json()
    assert result["speakers"][1]["identity"]["candidates"][0]["score"] > 0.99
    assert result["speakers"][1]["name"] == "Bo" and result["speakers"][1]["named"] == "identified"

    stale = result["revision"] - 1
    assert "another window" in correct(409, action="undo", revision=stale)["detail"]
    for _ in range(result["corrections"]):
        result = correct(action="undo")
    assert "nothing" in correct(409, action="undo")["detail"] or result["corrections"] == 0
    assert result["speakers"][0]["turns"] == job["result"]["speakers"][0]["turns"]
    assert np.array_equal(waveforms(server, job, result)[0], before[0])
    # Files of corrections that were undone are gone.
    assert not list(server.service.scratch.jobs.glob("*/corrected-*"))


def test_the_number_of_speakers_is_changed_without_the_upload(server: RunningServer, record) -> None:
    id_ = server.upload(record("serve-recount.wav", 6.0, 2))
    job = server.run("diarize", recording=id_)
    assert server.client.delete(f"/api/recordings/{id_}").status_code == 204
    started = server.client.post(f"/api/jobs/{job['id']}/recount", json={"speakers": 1})
    assert started.status_code == 202
    result = server.wait_for_job(started.json()["id"])["result"]
    assert len(result["speakers"]) == 1 and result["asked"] == 1
    given = server.run("diarize", recording=server.upload(record("serve-recount.wav", 6.0, 2)), speakers=1)
    assert result["speakers"][0]["turns"] == given["result"]["speakers"][0]["turns"]


def test_peaks_of_a_part_are_those_of_the_waveform(server: RunningServer, record) -> None:
    job = server.run("diarize", recording=server.upload(record("serve-peaks.wav", 3.0, 3)))
    url = f"/api/jobs/{job['id']}"
    wave_N, rate = soundfile.read(io.BytesIO(server.client.get(f"{url}/mixture.wav").content))
    part = server.client.get(f"{url}/peaks", params={"start": 1.0, "end": 2.0, "count": 100}).json()
    assert part["start"] <= 1.0 and part["end"] >= 2.0 and 100 <= len(part["peaks"]) <= 102
    first, size = round(part["start"] * rate), rate // 100
    for number in (0, 50, 99):
        begin = first + number * size
        assert part["peaks"][number] == pytest.approx(np.abs(wave_N[begin : begin + size]).max(), abs=1e-4)
    whole = server.client.get(f"{url}/peaks", params={"start": 0, "end": 99, "speaker": 1}).json()
    assert whole["end"] == pytest.approx(3.0, abs=0.01)
    for wrong in ({"start": "nan", "end": 1}, {"start": 0, "end": 1, "count": 9999}, {"start": -1, "end": 1}):
        assert server.client.get(f"{url}/peaks", params=wrong).status_code == 422


def test_a_transcript_gets_speakers(server: RunningServer, record, tmp_path: Path) -> None:
    job = server.run("diarize", recording=server.upload(record("serve-words.wav", 4.0, 4)), speakers=1)
    url = f"/api/jobs/{job['id']}"
    assert server.client.get(f"{url}/transcript.srt").status_code == 404
    start, end = job["result"]["speakers"][0]["turns"][0]
    words = {"segments": [{"start": start, "end": end, "text": "Hello <b>you</b>."}]}

    def send(name: str, content: bytes) -> tuple[int, dict]:
        response = server.client.post(f"{url}/transcript", params={"name": name}, content=content)
        return response.status_code, response.json()

    status, result = send("talk.json", json.dumps(words).encode())
    assert status == 200 and result["transcript"][0] == {
        "start": pytest.approx(start),
        "end": pytest.approx(end),
        "text": "Hello <b>you</b>.",
        "speaker": "speaker1",
    }
    body = {"action": "rename", "speaker": 1, "name": "Ann", "revision": result["revision"]}
    assert server.client.post(f"{url}/corrections", json=body).json()["transcript"][0]["speaker"] == "Ann"
    assert server.client.get(f"{url}/transcript.txt").text == "Ann: Hello <b>you</b>.\n"
    assert server.client.get(f"{url}/transcript.doc").status_code == 404
    for name, content, sentence in (
        ("talk.doc", b"x", "suffix of talk.doc: '.doc' is not valid"),
        ("talk.srt", b"no cues", "talk.srt has no cues with times"),
        ("talk.json", b"[" * 90000, "talk.json"),
    ):
        status, error = send(name, content)
        assert status == 422 and "/" not in error["detail"].partition(" ")[0], error
        assert sentence.partition(":")[0] in error["detail"]
    assert send("talk.srt", b" " * (9 << 20))[0] == 413

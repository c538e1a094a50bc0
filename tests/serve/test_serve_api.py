"""The HTTP API over a real socket: the verbs of the command line, with uploads for files."""

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from serve_helpers import Running

from separative.errors import GalleryError, SeparativeError
from separative.inference import diarize, embed, verify
from separative.metrics import plane
from separative.model import EncoderConfig, SeparativeEncoder, load_model, save_model
from separative.rttm import read_rttm
from separative.serve import Limits, create_app


def test_an_analysis_is_what_the_python_api_says(server: Running, saved, record, tmp_path: Path) -> None:
    path = record("serve-talk.wav", 6.0, 1)
    id_ = server.upload(path)
    job = server.run("diarize", recording=id_)
    assert job["state"] == "done" and job["progress"] == 1.0
    result, meeting = job["result"], diarize(saved, path)
    assert result["recording"] == "serve-talk.wav" and result["seconds"] == pytest.approx(6.0, abs=0.001)
    assert [t["turns"] for t in result["speakers"]] == [
        [[turn.start, turn.end] for turn in speaker.turns] for speaker in meeting.speakers
    ]
    at = f"/api/jobs/{job['id']}"
    lengths = set()
    for sound in ["mixture.wav", *(f"voices/{n + 1}.wav" for n in range(len(result["speakers"])))]:
        answer = server.client.get(f"{at}/{sound}")
        assert answer.headers["content-type"] == "audio/wav"
        wave_N, rate = soundfile.read(io.BytesIO(answer.content))
        lengths.add((len(wave_N), rate))
    assert lengths == {(6 * 8000, 8000)}
    (tmp_path / "found.rttm").write_bytes(server.client.get(f"{at}/meeting.rttm").content)
    (turns,) = read_rttm(tmp_path / "found.rttm").values()
    assert len(turns) == len(meeting.turns)
    whole = server.client.get(f"{at}/meeting.json").json()
    assert np.allclose(whole["speakers"][0]["embedding"], meeting.speakers[0].embedding_E, atol=1e-5)
    for speaker in result["speakers"]:
        assert 0 < max(speaker["peaks"]) <= 1 and len(speaker["peaks"]) <= 1600


def test_parts_of_a_sound_are_served_and_saved_under_a_safe_name(server: Running, record) -> None:
    id_ = server.upload(record("serve-range.wav", 2.0, 2), '../"x\n<b>é.wav')
    assert server.client.get(f"/api/recordings/{id_}").json()["name"] == '"x <b>é.wav'
    job = server.run("diarize", recording=id_)
    url = f"/api/jobs/{job['id']}/mixture.wav"
    part = server.client.get(url, headers={"Range": "bytes=44-143"})
    assert part.status_code == 206 and part.content == server.client.get(url).content[44:144]
    saved_as = server.client.get(url, params={"save": True}).headers["content-disposition"]
    assert saved_as == (
        "attachment; filename=\"_x _b__-mixture.wav\"; filename*=UTF-8''%22x%20%3Cb%3E%C3%A9-mixture.wav"
    )


def test_embed_separate_and_verify(server: Running, saved, record) -> None:
    path, other = record("serve-a.flac", 2.0, 3), record("serve-b.ogg", 2.0, 4)
    one, two = server.upload(path), server.upload(other)
    found = server.run("embed", recording=one)["result"]["speakers"][0]
    assert np.allclose(found["embedding"], embed(saved, path).speakers[0].embedding_E, atol=1e-5)
    job = server.run("separate", recording=one)
    sound = server.client.get(f"/api/jobs/{job['id']}/voices/1.wav").content
    assert soundfile.info(io.BytesIO(sound)).frames == 2 * 8000
    assert server.client.get(f"/api/jobs/{job['id']}/voices/9.wav").status_code == 404
    assert server.client.get(f"/api/jobs/{job['id']}/meeting.rttm").status_code == 404
    result = server.run("verify", left=[one], right=[two, one], prior=0.2)["result"]
    assert result["score"] == pytest.approx(verify(saved, path, [other, path], prior=0.2).score, abs=1e-5)
    assert 0 < result["probability"] < 1 and result["calibrated_on"].startswith("clean")


def test_enrol_identify_list_and_delete(start, record) -> None:
    server = start()
    ids = [server.upload(record(f"serve-{n}.wav", 4.0, 10 + n)) for n in range(3)]
    job = server.run("gallery", name=" Ada/Löwe ", recordings=ids[:1], metadata={"room": "4"}, force=True)
    assert job["state"] == "done" and job["result"]["name"] == "Ada/Löwe"
    lane = server.run("diarize", recording=ids[1])
    assert lane["result"]["speakers"][0]["identity"]["candidates"][0]["name"] == "Ada/Löwe"
    at = f"/api/jobs/{lane['id']}/speakers"
    assert server.client.post(f"{at}/1/enrol", json={"name": "Bo", "force": True}).status_code == 201
    again = server.client.post(f"{at}/1/enrol", json={"name": "Bo", "force": True})
    assert again.status_code == 409 and "already" in again.json()["detail"]
    assert server.client.post(f"{at}/99/enrol", json={"name": "Bo"}).status_code == 404
    found = server.run("gallery/find", recording=ids[1], count=2, prior=0.9)["result"]["speakers"][0]
    assert found["identity"]["name"] == "Bo" and found["identity"]["candidates"][0]["score"] > 0.99
    listed = server.client.get("/api/gallery").json()
    assert [t["name"] for t in listed["speakers"]] == ["Ada/Löwe", "Bo"] and listed["count"] == 2
    assert listed["speakers"][0]["metadata"] == {"room": "4"} and listed["spread"] == pytest.approx(1)
    assert server.client.get("/api/gallery", params={"count": 1}).json()["count"] == 2
    assert server.client.delete("/api/gallery/Ada%2FL%C3%B6we").status_code == 204
    gone = server.client.delete("/api/gallery/Ada%2FL%C3%B6we")
    assert gone.status_code == 404 and gone.json()["detail"] == "no speaker 'Ada/Löwe' in the gallery"
    assert [t["name"] for t in server.client.get("/api/gallery").json()["speakers"]] == ["Bo"]


def test_a_gate_refuses_with_reasons(start, record) -> None:
    server = start()
    id_ = server.upload(record("serve-short.wav", 1.2, 20), "short.wav")
    job = server.run("gallery", name="Ada", recordings=[id_])
    assert job["state"] == "failed" and job["status"] == 422
    assert job["detail"].startswith("short.wav: not enrolled: ") and "are needed" in job["detail"]
    lane = server.run("diarize", recording=id_)
    refused = server.client.post(f"/api/jobs/{lane['id']}/speakers/1/enrol", json={"name": "Ada"})
    assert refused.status_code == 422 and "are needed" in refused.json()["reasons"][0]
    assert server.client.get("/api/gallery").json()["count"] == 0


def test_of_several_recordings_one_that_is_refused_keeps_out_all(saved, tmp_path: Path, record) -> None:
    # A gallery's folder that is a word of many sentences, as from a shell.
    with chdir(tmp_path):
        server = Running(saved, Path("short"))
    try:
        ids = [
            server.upload(record(f"serve-of{n}.wav", s, 30 + n), "short.wav") for n, s in enumerate((4, 1.2))
        ]
        job = server.run("gallery", name="Ada", recordings=ids)
        assert job["status"] == 422 and job["detail"].startswith("short.wav: not enrolled: ")
        assert server.client.get("/api/gallery").json()["count"] == 0
        server.run("gallery", name="Ada", recordings=ids, force=True)
        assert server.client.get("/api/gallery").json()["speakers"][0]["recordings"] == 2
    finally:
        server.stop()


def test_a_job_that_cannot_be_done_says_why(server: Running, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "quiet.wav", np.zeros(16000), 8000)
    id_ = server.upload(tmp_path / "quiet.wav")
    job = server.run("diarize", recording=id_)
    assert (job["state"], job["status"]) == ("failed", 422)
    assert job["detail"] == "quiet.wav is silent throughout; an embedding needs 0.5 s of speech"
    assert server.client.get(f"/api/jobs/{job['id']}/mixture.wav").status_code == 404
    refused = server.client.post(f"/api/jobs/{job['id']}/speakers/1/enrol", json={"name": "x"})
    assert refused.status_code == 409


def test_events_tell_how_it_goes_until_it_is_over(server: Running, record) -> None:
    id_ = server.upload(record("serve-events.wav", 60.0, 30))
    job = server.client.post("/api/diarize", json={"recording": id_}).json()
    told = []
    with server.client.stream("GET", f"/api/jobs/{job['id']}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data: "):
                told.append(json.loads(line.removeprefix("data: ")))
    assert told[-1]["state"] == "done" and told[-1]["progress"] == 1
    assert [one["progress"] for one in told] == sorted(one["progress"] for one in told)
    assert "result" not in told[-1]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/jobs/none", None, 404),
        ("DELETE", "/api/jobs/..%2F..%2Fetc", None, 404),
        ("GET", "/api/jobs/none/events", None, 404),
        ("GET", "/api/recordings/none", None, 404),
        ("DELETE", "/api/recordings/none", None, 404),
        ("DELETE", "/api/gallery/nobody", None, 404),
        ("POST", "/api/diarize", {"recording": "none"}, 404),
        ("POST", "/api/diarize", {"recording": "none", "speakers": 0}, 422),
        ("POST", "/api/diarize", {"recordings": "none"}, 422),
        ("POST", "/api/verify", {"left": ["none"], "right": [], "prior": 0.5}, 422),
        ("POST", "/api/verify", {"left": ["none"], "right": ["none"], "prior": 1}, 422),
        ("POST", "/api/gallery", {"name": "  ", "recordings": ["none"]}, 422),
        ("POST", "/api/gallery", {"name": "a\nb", "recordings": ["none"]}, 422),
        ("POST", "/api/gallery", {"name": "..", "recordings": ["none"]}, 422),
        ("GET", "/guard.py", None, 404),
        ("GET", "/..%2Fguard.py", None, 404),
        ("PUT", "/api/about", None, 405),
    ],
)
def test_what_is_not_there_or_not_right_is_told_in_a_sentence(
    server: Running, method: str, path: str, body: object, status: int
) -> None:
    answer = server.client.request(method, path, json=body)
    assert answer.status_code == status
    assert isinstance(answer.json()["detail"], str) and "Traceback" not in answer.text


def test_half_a_character_and_deep_nesting_are_refused(server: Running) -> None:
    for body in (
        b'{"name": "\\ud800", "recordings": ["x"]}',
        b'{"name": "x", "recordings": ["x"], "metadata": {"\\ud800": 1}}',
        b"[" * 100_000,
        b"{",
    ):
        answer = server.client.post(
            "/api/gallery", content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code in (400, 422) and isinstance(answer.json()["detail"], str)


def test_two_uploads_at_once_keep_apart(server: Running, record) -> None:
    paths = [record(f"serve-twice{n}.wav", 3.0, 40 + n) for n in range(2)]

    def slowly(path: Path) -> str:
        def pieces():
            data = path.read_bytes()
            for start in range(0, len(data), 4096):
                yield data[start : start + 4096]
                time.sleep(0.005)

        return server.client.post("/api/recordings?name=same.wav", content=pieces()).json()["id"]

    with ThreadPoolExecutor(2) as pool:
        ids = list(pool.map(slowly, paths))
    folder = server.service.scratch.recordings
    assert [(folder / id_).read_bytes() for id_ in ids] == [path.read_bytes() for path in paths]


def test_a_recording_may_go_while_a_job_has_it(server: Running, record) -> None:
    id_ = server.upload(record("serve-gone.wav", 20.0, 50))
    job = server.client.post("/api/diarize", json={"recording": id_}).json()
    assert server.client.delete(f"/api/recordings/{id_}").status_code == 204
    assert server.over(job["id"])["state"] == "done"


def test_the_gallery_of_another_model_is_refused_at_the_start(saved, tmp_path: Path) -> None:
    torch.manual_seed(9)
    small = EncoderConfig(rate=8000, width=16, speaker_width=16, speaker_blocks=1, embedding=16)
    other = load_model(save_model(SeparativeEncoder(small), tmp_path / "other"))
    create_app(other, tmp_path / "gallery").state.service.close()
    with pytest.raises(GalleryError, match="was made with another model"):
        create_app(saved, tmp_path / "gallery")


def test_about_and_openapi(server: Running, saved) -> None:
    about = server.client.get("/api/about").json()
    assert about["model"]["sha256"] == saved.card["sha256"]
    assert about["model"]["parameters"] == saved.card["parameters"]
    assert about["limits"]["megabytes"] == 200
    document = server.client.get("/openapi.json").json()
    operations = [op for path in document["paths"].values() for op in path.values()]
    assert all(op.get("description") and op["responses"] for op in operations)
    assert {"/api/diarize", "/api/separate", "/api/embed", "/api/verify"} <= set(document["paths"])
    assert server.client.get("/docs").status_code == 404


def test_limits_are_above_nothing() -> None:
    with pytest.raises(SeparativeError, match="minutes 0: a limit is above 0"):
        Limits(minutes=0)


def test_the_map_shows_the_two_directions_of_most_variance() -> None:
    rng = np.random.default_rng(0)
    flat_NE = np.zeros((20, 6), np.float32)
    flat_NE[:, [1, 4]] = rng.standard_normal((20, 2))
    place_N2, spread = plane(flat_NE)
    assert spread == pytest.approx(1)
    # Distances stay where two directions hold everything.
    between = np.linalg.norm(place_N2[:, None] - place_N2[None], axis=-1)
    assert np.allclose(between, np.linalg.norm(flat_NE[:, None] - flat_NE[None], axis=-1), atol=1e-5)
    assert np.allclose(plane(flat_NE[:1])[0], 0) and plane(flat_NE[:0])[0].shape == (0, 2)

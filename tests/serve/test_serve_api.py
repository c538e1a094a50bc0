"""The HTTP API over a real socket: jobs, recordings and the gallery."""

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
from serve_helpers import RunningServer

from separative.errors import GalleryError, SeparativeError
from separative.inference import diarize, embed, verify
from separative.model import EncoderConfig, SeparativeEncoder, load_model, save_model
from separative.rttm import read_rttm
from separative.serve import Limits, create_app
from separative.serve.routes import project_embeddings


def test_a_diarize_job_gives_the_result_of_the_python_api(
    server: RunningServer, saved, record, tmp_path: Path
) -> None:
    path = record("serve-talk.wav", 6.0, 1)
    id_ = server.upload(path)
    job = server.run("diarize", recording=id_)
    assert job["state"] == "done" and job["progress"] == 1.0
    result, diarization = job["result"], diarize(saved, path)
    assert result["recording"] == "serve-talk.wav" and result["seconds"] == pytest.approx(6.0, abs=0.001)
    assert [speaker["turns"] for speaker in result["speakers"]] == [
        [[turn.start, turn.end] for turn in speaker.turns] for speaker in diarization.speakers
    ]
    url = f"/api/jobs/{job['id']}"
    lengths = set()
    for name in ["mixture.wav", *(f"speakers/{n + 1}.wav" for n in range(len(result["speakers"])))]:
        response = server.client.get(f"{url}/{name}")
        assert response.headers["content-type"] == "audio/wav"
        wave_N, rate = soundfile.read(io.BytesIO(response.content))
        lengths.add((len(wave_N), rate))
    assert lengths == {(6 * 8000, 8000)}
    (tmp_path / "found.rttm").write_bytes(server.client.get(f"{url}/meeting.rttm").content)
    (turns,) = read_rttm(tmp_path / "found.rttm").values()
    assert len(turns) == len(diarization.turns)
    record_json = server.client.get(f"{url}/meeting.json").json()
    assert np.allclose(record_json["speakers"][0]["embedding"], diarization.speakers[0].embedding, atol=1e-5)
    for speaker in result["speakers"]:
        assert 0 < max(speaker["peaks"]) <= 1 and len(speaker["peaks"]) <= 1600


def test_audio_files_support_ranges_and_safe_download_names(server: RunningServer, record) -> None:
    id_ = server.upload(record("serve-range.wav", 2.0, 2), '../"x\n<b>é.wav')
    assert server.client.get(f"/api/recordings/{id_}").json()["name"] == '"x <b>é.wav'
    job = server.run("diarize", recording=id_)
    url = f"/api/jobs/{job['id']}/mixture.wav"
    part = server.client.get(url, headers={"Range": "bytes=44-143"})
    assert part.status_code == 206 and part.content == server.client.get(url).content[44:144]
    disposition = server.client.get(url, params={"save": True}).headers["content-disposition"]
    assert disposition == (
        "attachment; filename=\"_x _b__-mixture.wav\"; filename*=UTF-8''%22x%20%3Cb%3E%C3%A9-mixture.wav"
    )


def test_embed_separate_and_verify(server: RunningServer, saved, record) -> None:
    path, other = record("serve-a.flac", 2.0, 3), record("serve-b.ogg", 2.0, 4)
    one, two = server.upload(path), server.upload(other)
    found = server.run("embed", recording=one)["result"]["speakers"][0]
    assert np.allclose(found["embedding"], embed(saved, path).speakers[0].embedding, atol=1e-5)
    job = server.run("separate", recording=one)
    content = server.client.get(f"/api/jobs/{job['id']}/speakers/1.wav").content
    assert soundfile.info(io.BytesIO(content)).frames == 2 * 8000
    assert server.client.get(f"/api/jobs/{job['id']}/speakers/9.wav").status_code == 404
    assert server.client.get(f"/api/jobs/{job['id']}/meeting.rttm").status_code == 404
    result = server.run("verify", left=[one], right=[two, one], prior=0.2)["result"]
    assert result["score"] == pytest.approx(verify(saved, path, [other, path], prior=0.2).score, abs=1e-5)
    assert 0 < result["probability"] < 1 and result["calibrated_on"].startswith("clean")


def test_enrol_identify_list_and_delete(start_server, record) -> None:
    server = start_server()
    ids = [server.upload(record(f"serve-{n}.wav", 4.0, 10 + n)) for n in range(3)]
    job = server.run("gallery", name=" Ada/Löwe ", recordings=ids[:1], metadata={"room": "4"}, force=True)
    assert job["state"] == "done" and job["result"]["name"] == "Ada/Löwe"
    job = server.run("diarize", recording=ids[1])
    assert job["result"]["speakers"][0]["identity"]["candidates"][0]["name"] == "Ada/Löwe"
    url = f"/api/jobs/{job['id']}/speakers"
    assert server.client.post(f"{url}/1/enrol", json={"name": "Bo", "force": True}).status_code == 201
    again = server.client.post(f"{url}/1/enrol", json={"name": "Bo", "force": True})
    assert again.status_code == 409 and "already" in again.json()["detail"]
    assert server.client.post(f"{url}/99/enrol", json={"name": "Bo"}).status_code == 404
    found = server.run("gallery/find", recording=ids[1], count=2, prior=0.9)["result"]["speakers"][0]
    assert found["identity"]["name"] == "Bo" and found["identity"]["candidates"][0]["score"] > 0.99
    listed = server.client.get("/api/gallery").json()
    assert [speaker["name"] for speaker in listed["speakers"]] == ["Ada/Löwe", "Bo"] and listed["count"] == 2
    assert listed["speakers"][0]["metadata"] == {"room": "4"} and listed[
        "explained_variance"
    ] == pytest.approx(1)
    assert server.client.get("/api/gallery", params={"count": 1}).json()["count"] == 2
    assert server.client.delete("/api/gallery/Ada%2FL%C3%B6we").status_code == 204
    gone = server.client.delete("/api/gallery/Ada%2FL%C3%B6we")
    assert gone.status_code == 404 and gone.json()["detail"] == "no speaker 'Ada/Löwe' in the gallery"
    assert [speaker["name"] for speaker in server.client.get("/api/gallery").json()["speakers"]] == ["Bo"]


def test_a_refused_enrolment_lists_its_reasons(start_server, record) -> None:
    server = start_server()
    id_ = server.upload(record("serve-short.wav", 1.2, 20), "short.wav")
    job = server.run("gallery", name="Ada", recordings=[id_])
    assert job["state"] == "failed" and job["status"] == 422
    assert job["detail"].startswith("short.wav: not enrolled: ") and "are needed" in job["detail"]
    job = server.run("diarize", recording=id_)
    refused = server.client.post(f"/api/jobs/{job['id']}/speakers/1/enrol", json={"name": "Ada"})
    assert refused.status_code == 422 and "are needed" in refused.json()["reasons"][0]
    assert server.client.get("/api/gallery").json()["count"] == 0


def test_one_refused_recording_refuses_the_whole_enrolment(saved, tmp_path: Path, record) -> None:
    # The folder's relative name, "short", is also a word of file names and messages.
    with chdir(tmp_path):
        server = RunningServer(saved, Path("short"))
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


def test_a_failed_job_states_the_reason(server: RunningServer, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "quiet.wav", np.zeros(16000), 8000)
    id_ = server.upload(tmp_path / "quiet.wav")
    job = server.run("diarize", recording=id_)
    assert (job["state"], job["status"]) == ("failed", 422)
    assert job["detail"] == "quiet.wav is silent throughout; an embedding needs 0.5 s of speech"
    assert server.client.get(f"/api/jobs/{job['id']}/mixture.wav").status_code == 404
    refused = server.client.post(f"/api/jobs/{job['id']}/speakers/1/enrol", json={"name": "x"})
    assert refused.status_code == 409


def test_events_report_progress_until_the_job_is_finished(server: RunningServer, record) -> None:
    id_ = server.upload(record("serve-events.wav", 60.0, 30))
    job = server.client.post("/api/diarize", json={"recording": id_}).json()
    states = []
    with server.client.stream("GET", f"/api/jobs/{job['id']}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data: "):
                states.append(json.loads(line.removeprefix("data: ")))
    assert states[-1]["state"] == "done" and states[-1]["progress"] == 1
    assert [state["progress"] for state in states] == sorted(state["progress"] for state in states)
    assert "result" not in states[-1]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/jobs/none", None, 404),
        ("DELETE", "/api/jobs/..%2F..%2Fetc", None, 404),
        ("GET", "/api/jobs/none/events", None, 404),
        ("GET", "/api/recordings/none", None, 404),
        ("DELETE", "/api/recordings/none", None, 404),
        ("DELETE", "/api/gallery/missing", None, 404),
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
def test_missing_or_invalid_input_gives_a_message(
    server: RunningServer, method: str, path: str, body: object, status: int
) -> None:
    response = server.client.request(method, path, json=body)
    assert response.status_code == status
    assert isinstance(response.json()["detail"], str) and "Traceback" not in response.text


def test_unpaired_surrogates_and_deep_nesting_are_refused(server: RunningServer) -> None:
    for body in (
        b'{"name": "\\ud800", "recordings": ["x"]}',
        b'{"name": "x", "recordings": ["x"], "metadata": {"\\ud800": 1}}',
        b"[" * 100_000,
        b"{",
    ):
        response = server.client.post(
            "/api/gallery", content=body, headers={"Content-Type": "application/json"}
        )
        assert response.status_code in (400, 422) and isinstance(response.json()["detail"], str)


def test_simultaneous_uploads_stay_separate(server: RunningServer, record) -> None:
    paths = [record(f"serve-twice{n}.wav", 3.0, 40 + n) for n in range(2)]

    def upload_slowly(path: Path) -> str:
        def chunks():
            data = path.read_bytes()
            for start in range(0, len(data), 4096):
                yield data[start : start + 4096]
                time.sleep(0.005)

        return server.client.post("/api/recordings?name=same.wav", content=chunks()).json()["id"]

    with ThreadPoolExecutor(2) as pool:
        ids = list(pool.map(upload_slowly, paths))
    folder = server.service.scratch.recordings
    assert [(folder / id_).read_bytes() for id_ in ids] == [path.read_bytes() for path in paths]


def test_a_recording_can_be_removed_while_a_job_uses_it(server: RunningServer, record) -> None:
    id_ = server.upload(record("serve-gone.wav", 20.0, 50))
    job = server.client.post("/api/diarize", json={"recording": id_}).json()
    assert server.client.delete(f"/api/recordings/{id_}").status_code == 204
    assert server.wait_for_job(job["id"])["state"] == "done"


def test_a_gallery_of_another_model_is_refused(saved, tmp_path: Path) -> None:
    torch.manual_seed(9)
    small = EncoderConfig(rate=8000, width=16, speaker_width=16, speaker_blocks=1, embedding=16)
    other = load_model(save_model(SeparativeEncoder(small), tmp_path / "other"))
    create_app(other, tmp_path / "gallery").state.service.close()
    with pytest.raises(GalleryError, match="was made with another model"):
        create_app(saved, tmp_path / "gallery")


def test_about_and_openapi(server: RunningServer, saved) -> None:
    about = server.client.get("/api/about").json()
    assert about["model"]["sha256"] == saved.card["sha256"]
    assert about["model"]["parameters"] == saved.card["parameters"]
    assert about["limits"]["megabytes"] == 200
    document = server.client.get("/openapi.json").json()
    operations = [op for path in document["paths"].values() for op in path.values()]
    assert all(op.get("description") and op["responses"] for op in operations)
    assert {"/api/diarize", "/api/separate", "/api/embed", "/api/verify"} <= set(document["paths"])
    assert server.client.get("/docs").status_code == 404


def test_limits_must_be_positive() -> None:
    with pytest.raises(SeparativeError, match="minutes is 0; a limit must be above 0"):
        Limits(minutes=0)


def test_the_map_shows_the_two_directions_with_the_largest_variance() -> None:
    rng = np.random.default_rng(0)
    flat_NE = np.zeros((20, 6), np.float32)
    flat_NE[:, [1, 4]] = rng.standard_normal((20, 2))
    position_N2, explained_variance = project_embeddings(flat_NE)
    assert explained_variance == pytest.approx(1)
    # Two directions hold all variance, so distances stay the same.
    distance_NN = np.linalg.norm(position_N2[:, None] - position_N2[None], axis=-1)
    assert np.allclose(distance_NN, np.linalg.norm(flat_NE[:, None] - flat_NE[None], axis=-1), atol=1e-5)
    assert np.allclose(project_embeddings(flat_NE[:1])[0], 0)
    assert project_embeddings(flat_NE[:0])[0].shape == (0, 2)


def test_names_are_normalised_and_speakers_renamed(start_server, record) -> None:
    server: RunningServer = start_server()
    ids = [server.upload(record(f"serve-name{n}.wav", 4.0, 80 + n)) for n in range(2)]
    job = server.run("gallery", name=" Zoe\u0301\u200b ", recordings=ids[:1], force=True)
    assert job["result"]["name"] == "Zoé" and job["result"]["warnings"] == []
    job = server.run("gallery", name="zoé", recordings=ids[1:], force=True)
    assert "'zoé' and 'Zoé' differ only in capital letters" in job["result"]["warnings"][0]
    taken = server.client.patch("/api/gallery/zoé", json={"name": "Zoé "})
    assert taken.status_code == 409 and "'Zoé' is enrolled already in the gallery" in taken.json()["detail"]
    renamed = server.client.patch("/api/gallery/zoé", json={"name": "A/B "})
    assert renamed.status_code == 200 and renamed.json() == {"name": "A/B", "warnings": []}
    assert [s["name"] for s in server.client.get("/api/gallery").json()["speakers"]] == ["A/B", "Zoé"]
    assert server.client.patch("/api/gallery/zoé", json={"name": "x"}).status_code == 404
    for name in ("", " ", "a\nb", "..", "x" * 201):
        assert server.client.patch("/api/gallery/A%2FB", json={"name": name}).status_code == 422
    for name in ("Zoe\u0301", "A%2FB"):
        assert server.client.delete(f"/api/gallery/{name}").status_code == 204

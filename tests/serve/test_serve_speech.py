"""Recordings without speech, over the HTTP API."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from serve_helpers import RunningServer

from separative.model import load_model


@pytest.fixture(scope="module")
def shipped_server(tmp_path_factory: pytest.TempPathFactory):
    running = RunningServer(load_model(), tmp_path_factory.mktemp("speech") / "gallery")
    yield running
    running.stop()


def test_a_recording_of_noise_has_no_speakers(shipped_server: RunningServer, tmp_path: Path) -> None:
    server = shipped_server
    soundfile.write(tmp_path / "noise.wav", 0.05 * np.random.default_rng(0).standard_normal(160000), 16000)
    id_ = server.upload(tmp_path / "noise.wav")
    job = server.run("diarize", recording=id_)
    assert (job["state"], job["result"]["speakers"]) == ("done", [])
    url = f"/api/jobs/{job['id']}"
    assert server.client.get(f"{url}/mixture.wav").status_code == 200
    assert server.client.get(f"{url}/meeting.rttm").text == ""
    refused = server.client.post(f"{url}/speakers/1/enrol", json={"name": "Ada", "force": True})
    assert refused.status_code == 404 and "no speech was found" in refused.json()["detail"]
    assert server.run("gallery/find", recording=id_)["result"]["speakers"] == []
    for force in (False, True):
        job = server.run("gallery", name="Ada", recordings=[id_], force=force)
        assert (job["state"], job["status"]) == ("failed", 422)
        assert job["detail"].startswith("noise.wav: not enrolled: no speech was found in it")
    assert server.client.get("/api/gallery").json()["count"] == 0

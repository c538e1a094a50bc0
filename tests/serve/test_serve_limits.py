"""Invalid uploads, limits, cancelled jobs and full disks: the right status, and no files left."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import soundfile
from serve_helpers import RunningServer, until

from separative import audio
from separative.serve import Limits
from separative.serve.uploads import PREFIX, ScratchFolder, clean_label

DAMAGED = int(os.environ.get("SEPARATIVE_HOSTILE", "60"))
NAMES = (
    "../../../../etc/passwd",
    "C:\\windows\\system32\\x.wav",
    "<img src=x onerror=alert(1)>.wav",
    "a\0b\r\nSet-Cookie: x=y.wav",
    "x" * 900,
    "\u202egnp.wav",
    ".",
    "",
)


def long_flac() -> bytes:
    """A short FLAC file with a header that states 2³⁶ − 1 samples, 99 days at 8 kHz."""
    with tempfile.TemporaryDirectory() as folder:
        soundfile.write(f"{folder}/x.flac", 0.1 * np.ones(8000), 8000)
        data = bytearray(Path(f"{folder}/x.flac").read_bytes())
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    return bytes(data)


def unstated_flac(seconds: int) -> bytes:
    """A FLAC file of silence, a few kilobytes per minute, with a header that does not state the duration."""
    with tempfile.TemporaryDirectory() as folder:
        soundfile.write(f"{folder}/x.flac", np.zeros(seconds * 8000), 8000)
        data = bytearray(Path(f"{folder}/x.flac").read_bytes())
    data[21] &= 0xF0
    data[22:26] = b"\0" * 4
    return bytes(data)


def wav_header(channels: int, rate: int, stated: int = 2**31) -> bytes:
    """A WAV file with a header that states more samples than the file has."""
    fields = [1, channels, rate, rate * channels * 2, channels * 2, 16]
    sizes = [2, 2, 4, 4, 2, 2]
    form = b"".join((f % 2 ** (8 * s)).to_bytes(s, "little") for f, s in zip(fields, sizes, strict=True))
    size = stated.to_bytes(4, "little")
    return b"RIFF" + size + b"WAVEfmt \x10\0\0\0" + form + b"data" + size + b"\1\2" * 4000


def damaged(record, count: int) -> list[bytes]:
    """Audio files in every format with bytes changed, removed or inserted; and files that are not audio."""
    rng = np.random.default_rng(7)
    real = [
        record(f"hostile{suffix}", 2.0, 60, channels=channels).read_bytes()
        for suffix, channels in ((".wav", 2), (".flac", 1), (".ogg", 1), (".mp3", 1), (".opus", 1))
    ]
    files = [
        b"",
        b"this is a text called .wav\n" * 99,
        b"<script>alert(1)</script>",
        b"RIFF",
        b"fLaC",
        b"OggS" * 5000,
        rng.bytes(50_000),
        long_flac(),
        unstated_flac(400),
        wav_header(1, 8000),
        wav_header(65535, 192000),
        wav_header(2, 2**32 - 1),
        b"\x1f\x8b\x08" + bytes(40_000),
    ]
    while len(files) < count:
        data = bytearray(real[int(rng.integers(len(real)))])
        for _ in range(int(rng.integers(1, 12))):
            # Half of the changes are in the header, where they have the largest effect.
            place = int(rng.integers(min(len(data), 200)) if rng.random() < 0.5 else rng.integers(len(data)))
            kind = rng.integers(4)
            if kind == 0:
                data[place] = int(rng.integers(256))
            elif kind == 1:
                data[place : place + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"])
            elif kind == 2:
                del data[place : place + int(rng.integers(1, 3000))]
            else:
                data[place:place] = rng.bytes(int(rng.integers(1, 300)))
            if not data:
                data = bytearray(b"x")
        files.append(bytes(data))
    return files[:count]


def test_damaged_uploads_leave_the_server_running_and_its_folder_empty(start_server, record) -> None:
    server: RunningServer = start_server(Limits(minutes=5, megabytes=5))
    seen: dict[str, int] = {}
    for number, data in enumerate(damaged(record, DAMAGED)):
        name = NAMES[number % len(NAMES)]
        response = server.client.post("/api/recordings", params={"name": name}, content=data)
        assert response.status_code in (201, 413, 415), response.text
        content = response.json()
        end = str(response.status_code)
        if response.status_code == 201:
            assert content["name"] == clean_label(name) and content["seconds"] <= 5 * 60
            job = server.run("diarize", recording=content["id"])
            assert job["state"] in ("done", "failed")
            assert job["state"] == "done" or job["status"] == 422, job
            end += f" {job['state']}"
            for path in (f"/api/jobs/{job['id']}", f"/api/recordings/{content['id']}"):
                assert server.client.delete(path).status_code == 204
        else:
            assert str(server.service.scratch.folder) not in content["detail"]
        seen[end] = seen.get(end, 0) + 1
    print(seen)
    assert server.client.get("/api/about").status_code == 200
    assert server.temporary_files() == [] and list(server.service.scratch.jobs.iterdir()) == []
    assert {"413", "415", "201 done"} <= set(seen)


def test_too_many_bytes_are_refused_with_and_without_a_stated_size(start_server) -> None:
    server: RunningServer = start_server(Limits(megabytes=0.1))
    stated = server.client.post("/api/recordings", content=bytes(200_000))
    assert stated.status_code == 413 and "0.1 megabytes" in stated.json()["detail"]
    chunked = server.client.post("/api/recordings", content=(bytes(10_000) for _ in range(20)))
    assert chunked.status_code == 413
    assert server.temporary_files() == []


def test_too_long_recordings_are_refused_by_their_header(start_server, tmp_path: Path) -> None:
    server: RunningServer = start_server(Limits(minutes=0.05))
    soundfile.write(tmp_path / "long.wav", np.zeros(4 * 8000), 8000)
    response = server.client.post(
        "/api/recordings?name=long.wav", content=(tmp_path / "long.wav").read_bytes()
    )
    assert response.status_code == 413 and response.json()["detail"].startswith("long.wav lasts")
    # CPU time of this process, in which the server runs: a busy machine does not change it.
    begun = time.process_time()
    # More than an hour in 200 kB. The server decodes only up to the limit.
    packed = server.client.post("/api/recordings", content=unstated_flac(4000))
    assert packed.status_code in (413, 415) and time.process_time() - begun < 5
    many = server.client.post("/api/recordings?name=m.wav", content=wav_header(9, 8000, 90_000))
    assert many.status_code == 413 and "9 channels" in many.json()["detail"]


def test_a_disconnected_client_leaves_no_files(start_server) -> None:
    server: RunningServer = start_server()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(
            b"POST /api/recordings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n" + bytes(5000)
        )
        until(server.temporary_files)
    until(lambda: not server.temporary_files())
    assert server.client.get("/api/about").status_code == 200


def test_a_full_queue_states_when_to_retry(start_server, record) -> None:
    server: RunningServer = start_server(Limits(waiting=1))
    id_ = server.upload(record("serve-queue.wav", 60.0, 70))
    responses = [server.client.post("/api/diarize", json={"recording": id_}) for _ in range(6)]
    refused = [response for response in responses if response.status_code == 429]
    assert refused and all(int(response.headers["retry-after"]) >= 1 for response in refused)
    assert {response.status_code for response in responses} == {202, 429}
    waiting = [response.json() for response in responses if response.status_code == 202]
    assert server.client.get(f"/api/jobs/{waiting[-1]['id']}").json()["jobs_ahead"] <= 1
    for job in waiting:
        assert server.wait_for_job(job["id"])["state"] == "done"


def test_a_cancelled_job_stops_and_removes_its_files(start_server, record) -> None:
    server: RunningServer = start_server()
    id_ = server.upload(record("serve-cancel.wav", 300.0, 71))
    running, waiting = (server.client.post("/api/diarize", json={"recording": id_}).json() for _ in range(2))
    until(lambda: server.client.get(f"/api/jobs/{running['id']}").json()["progress"] > 0)
    for job in (waiting, running):
        assert server.client.delete(f"/api/jobs/{job['id']}").status_code == 204
        assert server.client.get(f"/api/jobs/{job['id']}").status_code == 404
    until(lambda: not list(server.service.scratch.jobs.iterdir()))
    # The worker is free again.
    assert server.run("embed", recording=server.upload(record("serve-next.wav", 2.0, 72)))["state"] == "done"


def test_a_job_that_takes_too_long_fails(start_server, record) -> None:
    server: RunningServer = start_server(Limits(job_minutes=0.0001))
    job = server.run("diarize", recording=server.upload(record("serve-slow.wav", 60.0, 73)))
    assert (job["state"], job["status"]) == ("failed", 503) and "minutes" in job["detail"]
    assert not (server.service.scratch.jobs / job["id"]).exists()


def test_unused_recordings_and_jobs_expire(start_server, record) -> None:
    server: RunningServer = start_server(Limits(keep_minutes=0.02))
    id_ = server.upload(record("serve-expire.wav", 2.0, 74))
    job = server.run("diarize", recording=id_)
    until(lambda: not server.temporary_files(), seconds=20)
    assert server.client.get(f"/api/recordings/{id_}").status_code == 404
    assert server.client.get(f"/api/jobs/{job['id']}").status_code == 404


def test_uploads_are_refused_when_the_storage_is_full(start_server, record) -> None:
    server: RunningServer = start_server(Limits(gigabytes=1e-4))
    path = record("serve-much.wav", 5.0, 75)
    server.upload(path)
    full = server.client.post("/api/recordings", content=path.read_bytes())
    assert full.status_code == 429 and full.headers["retry-after"]


def test_a_job_fails_when_its_results_would_exceed_the_storage(start_server, record) -> None:
    server: RunningServer = start_server(Limits(gigabytes=2e-4))
    id_ = server.upload(record("serve-results.wav", 5.0, 75))
    job = server.run("diarize", recording=id_)
    assert (job["state"], job["status"]) == ("failed", 429) and "storage" in job["detail"]


def test_the_folder_of_a_killed_server_is_removed(saved, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = (
        "import os, signal, tempfile, sys\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        "from separative.serve.uploads import ScratchFolder\n"
        "(ScratchFolder().recordings / 'x').write_text('secret')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    (left,) = tmp_path.glob(f"{PREFIX}*")
    living = ScratchFolder()
    assert not left.exists()
    other = ScratchFolder()
    assert living.folder.is_dir() and living.folder.stat().st_mode & 0o077 == 0
    living.close()
    other.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_gives_a_message_and_leaves_no_files(start_server, record) -> None:
    server: RunningServer = start_server()
    folder = server.service.scratch.recordings
    # A missing folder stands for a full disk, also when root runs the tests.
    folder.rmdir()
    response = server.client.post("/api/recordings", content=record("serve-full.wav", 1.0, 76).read_bytes())
    assert response.status_code == 507 and "cannot read or write" in response.json()["detail"]
    folder.mkdir()
    assert server.upload(record("serve-full.wav", 1.0, 76))


def test_a_missing_recording_leaves_no_job(start_server, record) -> None:
    server: RunningServer = start_server()
    id_ = server.upload(record("serve-vanish.wav", 1.0, 78))
    (server.service.scratch.recordings / id_).unlink()
    assert server.client.post("/api/embed", json={"recording": id_}).status_code == 404
    assert list(server.service.scratch.jobs.iterdir()) == [] and len(server.service.jobs) == 0


def test_a_gallery_that_cannot_be_written_gives_a_message(start_server, record) -> None:
    server: RunningServer = start_server()
    job = server.run("diarize", recording=server.upload(record("serve-disk.wav", 4.0, 77)))
    # SQLite treats its page limit like a full disk.
    server.service.gallery._store.connection.execute("PRAGMA max_page_count = 1")
    body = {"name": "Ada", "force": True, "metadata": {str(n): "x" * 2000 for n in range(50)}}
    response = server.client.post(f"/api/jobs/{job['id']}/speakers/1/enrol", json=body)
    assert response.status_code == 507 and "full" in response.json()["detail"]
    assert str(server.service.gallery.folder) not in response.text
    assert server.client.get("/api/gallery").json()["count"] == 0


def test_labels_are_one_line_without_folders() -> None:
    labels = [clean_label(name) for name in NAMES]
    assert labels[:2] == ["passwd", "x.wav"] and labels[-1] == "recording" and len(labels[4]) == 200
    assert all(label.isprintable() and "/" not in label and "\\" not in label for label in labels)


def test_a_recording_from_the_page_is_accepted(start_server, tmp_path: Path) -> None:
    # The page encodes microphone recordings like this.
    server: RunningServer = start_server()
    audio.write(tmp_path / "mic.wav", 0.1 * np.ones(48000, np.float32), 48000)
    with httpx.Client(base_url=server.url) as client:
        body = client.post("/api/recordings", content=(tmp_path / "mic.wav").read_bytes()).json()
    assert (body["rate"], body["seconds"], body["name"]) == (48000, 1.0, "recording")

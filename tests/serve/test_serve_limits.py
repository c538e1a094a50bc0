"""Bad input, bad luck and bad clients: refused with a status that fits, and nothing left over."""

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
from serve_helpers import Running, until

from separative import audio
from separative.serve import Limits
from separative.serve.uploads import PREFIX, Scratch, label_of

HOSTILE = int(os.environ.get("SEPARATIVE_HOSTILE", "60"))
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
    """A short FLAC whose header claims 2³⁶ − 1 samples, 99 days at 8 kHz."""
    with tempfile.TemporaryDirectory() as folder:
        soundfile.write(f"{folder}/x.flac", 0.1 * np.ones(8000), 8000)
        data = bytearray(Path(f"{folder}/x.flac").read_bytes())
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    return bytes(data)


def unstated_flac(seconds: int) -> bytes:
    """Silence packs well: a FLAC of a few kilobytes a minute, whose header does not say how long it is."""
    with tempfile.TemporaryDirectory() as folder:
        soundfile.write(f"{folder}/x.flac", np.zeros(seconds * 8000), 8000)
        data = bytearray(Path(f"{folder}/x.flac").read_bytes())
    data[21] &= 0xF0
    data[22:26] = b"\0" * 4
    return bytes(data)


def wav_header(channels: int, rate: int, claimed: int = 2**31) -> bytes:
    """A WAV that claims much more than it has."""
    fields = [1, channels, rate, rate * channels * 2, channels * 2, 16]
    sizes = [2, 2, 4, 4, 2, 2]
    form = b"".join((f % 2 ** (8 * s)).to_bytes(s, "little") for f, s in zip(fields, sizes, strict=True))
    claims = claimed.to_bytes(4, "little")
    return b"RIFF" + claims + b"WAVEfmt \x10\0\0\0" + form + b"data" + claims + b"\1\2" * 4000


def hostile(record, count: int) -> list[bytes]:
    """Real audio in every format with bytes changed, cut out or put in; and things that are no audio."""
    rng = np.random.default_rng(7)
    real = [
        record(f"hostile{suffix}", 2.0, 60, channels=channels).read_bytes()
        for suffix, channels in ((".wav", 2), (".flac", 1), (".ogg", 1), (".mp3", 1), (".opus", 1))
    ]
    whole = [
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
    while len(whole) < count:
        data = bytearray(real[int(rng.integers(len(real)))])
        for _ in range(int(rng.integers(1, 12))):
            # The header is where most goes wrong.
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
        whole.append(bytes(data))
    return whole[:count]


def test_hostile_uploads_leave_the_server_up_and_its_folder_empty(start, record) -> None:
    server: Running = start(Limits(minutes=5, megabytes=5))
    seen: dict[str, int] = {}
    for number, data in enumerate(hostile(record, HOSTILE)):
        name = NAMES[number % len(NAMES)]
        answer = server.client.post("/api/recordings", params={"name": name}, content=data)
        assert answer.status_code in (201, 413, 415), answer.text
        told = answer.json()
        end = str(answer.status_code)
        if answer.status_code == 201:
            assert told["name"] == label_of(name) and told["seconds"] <= 5 * 60
            job = server.run("diarize", recording=told["id"])
            assert job["state"] in ("done", "failed")
            assert job["state"] == "done" or job["status"] == 422, job
            end += f" {job['state']}"
            for path in (f"/api/jobs/{job['id']}", f"/api/recordings/{told['id']}"):
                assert server.client.delete(path).status_code == 204
        else:
            assert str(server.service.scratch.folder) not in told["detail"]
        seen[end] = seen.get(end, 0) + 1
    print(seen)
    assert server.client.get("/api/about").status_code == 200
    assert server.files() == [] and list(server.service.scratch.jobs.iterdir()) == []
    assert {"413", "415", "201 done"} <= set(seen)


def test_too_many_bytes_are_refused_announced_or_not(start) -> None:
    server: Running = start(Limits(megabytes=0.1))
    announced = server.client.post("/api/recordings", content=bytes(200_000))
    assert announced.status_code == 413 and "0.1 megabytes" in announced.json()["detail"]
    unannounced = server.client.post("/api/recordings", content=(bytes(10_000) for _ in range(20)))
    assert unannounced.status_code == 413
    assert server.files() == []


def test_too_long_is_told_by_the_header_alone(start, tmp_path: Path) -> None:
    server: Running = start(Limits(minutes=0.05))
    soundfile.write(tmp_path / "long.wav", np.zeros(4 * 8000), 8000)
    answer = server.client.post("/api/recordings?name=long.wav", content=(tmp_path / "long.wav").read_bytes())
    assert answer.status_code == 413 and answer.json()["detail"].startswith("long.wav lasts")
    begun = time.monotonic()
    # An hour and more in 200 kB: counted no further than the limit.
    packed = server.client.post("/api/recordings", content=unstated_flac(4000))
    assert packed.status_code in (413, 415) and time.monotonic() - begun < 5
    many = server.client.post("/api/recordings?name=m.wav", content=wav_header(9, 8000, 90_000))
    assert many.status_code == 413 and "9 channels" in many.json()["detail"]


def test_a_client_that_goes_away_leaves_nothing(start) -> None:
    server: Running = start()
    with socket.create_connection(("127.0.0.1", server.port)) as gone:
        gone.sendall(
            b"POST /api/recordings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n" + bytes(5000)
        )
        until(server.files)
    until(lambda: not server.files())
    assert server.client.get("/api/about").status_code == 200


def test_a_full_queue_says_when_to_come_back(start, record) -> None:
    server: Running = start(Limits(waiting=1))
    id_ = server.upload(record("serve-queue.wav", 60.0, 70))
    answers = [server.client.post("/api/diarize", json={"recording": id_}) for _ in range(6)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused and all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert {answer.status_code for answer in answers} == {202, 429}
    waiting = [answer.json() for answer in answers if answer.status_code == 202]
    assert server.client.get(f"/api/jobs/{waiting[-1]['id']}").json()["ahead"] <= 1
    for job in waiting:
        assert server.over(job["id"])["state"] == "done"


def test_a_cancelled_job_stops_and_takes_its_files_along(start, record) -> None:
    server: Running = start()
    id_ = server.upload(record("serve-cancel.wav", 300.0, 71))
    running, waiting = (server.client.post("/api/diarize", json={"recording": id_}).json() for _ in range(2))
    until(lambda: server.client.get(f"/api/jobs/{running['id']}").json()["progress"] > 0)
    for job in (waiting, running):
        assert server.client.delete(f"/api/jobs/{job['id']}").status_code == 204
        assert server.client.get(f"/api/jobs/{job['id']}").status_code == 404
    until(lambda: not list(server.service.scratch.jobs.iterdir()))
    # The worker is free again.
    assert server.run("embed", recording=server.upload(record("serve-next.wav", 2.0, 72)))["state"] == "done"


def test_a_job_that_takes_too_long_is_ended(start, record) -> None:
    server: Running = start(Limits(job_minutes=0.0001))
    job = server.run("diarize", recording=server.upload(record("serve-slow.wav", 60.0, 73)))
    assert (job["state"], job["status"]) == ("failed", 503) and "minutes" in job["detail"]
    assert not (server.service.scratch.jobs / job["id"]).exists()


def test_what_nobody_uses_goes_by_itself(start, record) -> None:
    server: Running = start(Limits(keep_minutes=0.02))
    id_ = server.upload(record("serve-expire.wav", 2.0, 74))
    job = server.run("diarize", recording=id_)
    until(lambda: not server.files(), seconds=20)
    assert server.client.get(f"/api/recordings/{id_}").status_code == 404
    assert server.client.get(f"/api/jobs/{job['id']}").status_code == 404


def test_the_server_holds_only_so_much(start, record) -> None:
    server: Running = start(Limits(gigabytes=1e-4))
    path = record("serve-much.wav", 5.0, 75)
    server.upload(path)
    full = server.client.post("/api/recordings", content=path.read_bytes())
    assert full.status_code == 429 and full.headers["retry-after"]


def test_results_count_as_well_as_uploads(start, record) -> None:
    server: Running = start(Limits(gigabytes=2e-4))
    id_ = server.upload(record("serve-results.wav", 5.0, 75))
    job = server.run("diarize", recording=id_)
    assert (job["state"], job["status"]) == ("failed", 429) and "as much as it may" in job["detail"]


def test_a_server_that_was_killed_is_tidied_up_after(saved, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = (
        "import os, signal, tempfile, sys\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        "from separative.serve.uploads import Scratch\n"
        "(Scratch().recordings / 'x').write_text('secret')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    (left,) = tmp_path.glob(f"{PREFIX}*")
    living = Scratch()
    assert not left.exists()
    other = Scratch()
    assert living.folder.is_dir() and living.folder.stat().st_mode & 0o077 == 0
    living.close()
    other.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_leaves_nothing(start, record) -> None:
    server: Running = start()
    folder = server.service.scratch.recordings
    # A folder that takes no files stands for a disk without room, whoever runs the tests.
    folder.rmdir()
    answer = server.client.post("/api/recordings", content=record("serve-full.wav", 1.0, 76).read_bytes())
    assert answer.status_code == 507 and "cannot write" in answer.json()["detail"]
    folder.mkdir()
    assert server.upload(record("serve-full.wav", 1.0, 76))


def test_a_recording_that_vanished_leaves_no_job(start, record) -> None:
    server: Running = start()
    id_ = server.upload(record("serve-vanish.wav", 1.0, 78))
    (server.service.scratch.recordings / id_).unlink()
    assert server.client.post("/api/embed", json={"recording": id_}).status_code == 404
    assert list(server.service.scratch.jobs.iterdir()) == [] and len(server.service.jobs) == 0


def test_a_gallery_that_cannot_be_written_is_told(start, record) -> None:
    server: Running = start()
    job = server.run("diarize", recording=server.upload(record("serve-disk.wav", 4.0, 77)))
    # SQLite's own limit of pages is met as a full disk is.
    server.service.gallery._rows.db.execute("PRAGMA max_page_count = 1")
    body = {"name": "Ada", "force": True, "metadata": {str(n): "x" * 2000 for n in range(50)}}
    answer = server.client.post(f"/api/jobs/{job['id']}/speakers/1/enrol", json=body)
    assert answer.status_code == 507 and "full" in answer.json()["detail"]
    assert str(server.service.gallery.folder) not in answer.text
    assert server.client.get("/api/gallery").json()["count"] == 0


def test_labels_are_one_plain_line() -> None:
    labels = [label_of(name) for name in NAMES]
    assert labels[:2] == ["passwd", "x.wav"] and labels[-1] == "recording" and len(labels[4]) == 200
    assert all(label.isprintable() and "/" not in label and "\\" not in label for label in labels)


def test_a_recording_as_waveform_goes_round(start, tmp_path: Path) -> None:
    # What the page makes of the microphone.
    server: Running = start()
    audio.write(tmp_path / "mic.wav", 0.1 * np.ones(48000, np.float32), 48000)
    with httpx.Client(base_url=server.url) as client:
        body = client.post("/api/recordings", content=(tmp_path / "mic.wav").read_bytes()).json()
    assert (body["rate"], body["seconds"], body["name"]) == (48000, 1.0, "recording")

"""Slow senders, too many connections, and a gallery that another process has locked."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from serve_helpers import RunningServer, answer, until

from separative.serve import Limits, app
from separative.serve.protocol import Connection

SLOW = b"POST /api/recordings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\nRIFF"
SLOW_FORM = (
    b"POST /api/recordings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nContent-"
)
SLOW_JSON = b"POST /api/diarize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{"


def accepted(server: RunningServer, path: Path) -> bool:
    response = server.client.post("/api/recordings?name=a.wav", content=path.read_bytes())
    # On a busy machine, this upload may be too slow as well.
    assert response.status_code in (201, 408, 429), response.text
    return response.status_code == 201


@pytest.mark.parametrize("begun", [SLOW, SLOW_FORM, SLOW_JSON])
def test_a_request_that_stops_arriving_is_ended(start_server, begun: bytes) -> None:
    server: RunningServer = start_server(Limits(grace_seconds=0.3))
    with closing(server.connect(begun)) as connection:
        status, headers, body = answer(connection)
    assert (status, headers["connection"]) == (408, "close")
    assert "at least 30 kB/s are needed after 0.3 s" in body["detail"]
    until(lambda: not server.temporary_files())


def test_a_sender_of_single_bytes_is_ended(start_server) -> None:
    server: RunningServer = start_server(Limits(grace_seconds=0.3))
    with closing(server.connect(SLOW)) as connection:
        connection.settimeout(0.02)

        def refused() -> bytes:
            try:
                connection.sendall(b"x")
                return connection.recv(1000)
            except TimeoutError:
                return b""

        assert b" 408 " in until(refused)


def test_a_sender_above_the_lowest_rate_is_served(start_server, record) -> None:
    # In 40 parts, slower than the network, for longer than the grace time.
    server: RunningServer = start_server(Limits(grace_seconds=2.0, kilobytes_per_second=1.0))
    data = record("serve-steady.wav", 4.0, 91).read_bytes()
    size = -(-len(data) // 40)

    def parts():
        for start in range(0, len(data), size):
            time.sleep(0.06)
            yield data[start : start + size]

    assert server.client.post("/api/recordings", content=parts()).status_code == 201


def test_eight_slow_senders_do_not_hold_the_server(start_server, record) -> None:
    server: RunningServer = start_server(Limits(grace_seconds=1.0))
    path = record("serve-other.wav", 1.0, 92)
    connections = [server.connect(SLOW) for _ in range(8)]
    until(lambda: len(server.temporary_files()) == 8)
    until(lambda: accepted(server, path))
    assert [answer(connection)[0] for connection in connections] == [408] * 8
    for connection in connections:
        connection.close()


def test_a_slow_sender_makes_room_before_its_grace_time_ends(start_server, record, monkeypatch) -> None:
    monkeypatch.setattr("separative.serve.uploads.DISPLACE_SECONDS", 0.2)
    server: RunningServer = start_server(Limits(grace_seconds=600.0, uploads=2))
    path = record("serve-other.wav", 1.0, 92)
    connections = [server.connect(SLOW) for _ in range(2)]
    until(lambda: len(server.temporary_files()) == 2)
    until(lambda: accepted(server, path))
    # One of them has made room, and the other one still has its slot.
    until(lambda: len(server.temporary_files()) == 2)
    for connection in connections:
        connection.close()
    until(lambda: len(server.temporary_files()) == 1)


def test_too_many_connections_get_json(start_server, monkeypatch) -> None:
    server: RunningServer = start_server()
    server.client.get("/api/about")
    monkeypatch.setattr(Connection, "max_connections", 4)
    connections = [server.connect() for _ in range(4)]
    with closing(server.connect(b"GET /api/about HTTP/1.1\r\nHost: localhost\r\n\r\n")) as connection:
        status, headers, body = answer(connection)
    assert (status, headers["retry-after"]) == (503, "5") and "too many connections" in body["detail"]
    for connection in connections:
        connection.close()
    until(lambda: server.client.get("/api/about").status_code == 200)


def test_a_connection_without_a_request_is_closed(start_server, monkeypatch) -> None:
    monkeypatch.setattr(Connection, "header_seconds", 0.1)
    server: RunningServer = start_server()
    for begun in (b"", b"GET / HTTP/1.1\r\nHost: local"):
        with closing(server.connect(begun)) as connection:
            assert connection.recv(100) == b""
    monkeypatch.undo()
    assert server.client.get("/api/about").status_code == 200


def test_what_is_no_request_gets_json(server: RunningServer) -> None:
    for data in (
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
        b"GET\0/ HTTP/1.1\r\n\r\n",
    ):
        with closing(server.connect(data)) as connection:
            status, _, body = answer(connection)
        assert status == 400 and body["detail"].endswith("send an HTTP/1.1 request")


def test_a_request_that_the_end_of_the_server_interrupts_gets_json(start_server) -> None:
    server: RunningServer = start_server()
    with closing(server.connect(SLOW)) as connection:
        until(server.temporary_files)
        server.stop()
        status, _, body = answer(connection)
    assert (status, body["detail"]) == (503, "the server is stopping; start it again")


def test_a_locked_gallery_is_busy_and_does_not_block(start_server, record, monkeypatch) -> None:
    assert app.LOCK_SECONDS <= 5
    monkeypatch.setattr(app, "LOCK_SECONDS", 0.1)
    server: RunningServer = start_server()
    job = server.run("diarize", recording=server.upload(record("serve-locked.wav", 4.0, 93)))
    enrol = f"/api/jobs/{job['id']}/speakers/1/enrol"
    assert server.client.post(enrol, json={"name": "Ada", "force": True}).status_code == 201
    other = sqlite3.connect(server.service.gallery._store.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    requests = [
        ("GET", "/api/gallery", None),
        ("POST", enrol, {"name": "Bo", "force": True}),
        ("PATCH", "/api/gallery/Ada", {"name": "Eve"}),
        ("DELETE", "/api/gallery/Ada", None),
    ]
    with ThreadPoolExecutor(12) as pool:
        responses = list(pool.map(lambda r: server.client.request(r[0], r[1], json=r[2]), requests * 3))
    for response in responses:
        assert response.status_code == 503 and int(response.headers["retry-after"]) >= 1
        assert "try again" in response.json()["detail"] or "nothing was changed" in response.json()["detail"]
    assert server.client.get("/api/about").status_code == 200
    failed = server.run("diarize", recording=server.upload(record("serve-locked.wav", 4.0, 93)))
    assert (failed["state"], failed["status"]) == ("failed", 503)
    other.execute("ROLLBACK")
    other.close()
    assert [s["name"] for s in server.client.get("/api/gallery").json()["speakers"]] == ["Ada"]


def test_a_damaged_gallery_is_an_error_of_the_server(start_server, record) -> None:
    server: RunningServer = start_server()
    job = server.run(
        "gallery", name="Ada", recordings=[server.upload(record("serve-x.wav", 4.0, 94))], force=True
    )
    assert job["state"] == "done"
    with closing(sqlite3.connect(server.service.gallery._store.path, isolation_level=None)) as other:
        other.execute("UPDATE speaker SET name = 'Eve'")
    response = server.client.get("/api/gallery")
    assert (
        response.status_code == 500 and "the gallery/gallery.sqlite is damaged" in response.json()["detail"]
    )


def test_simultaneous_enrolments_lose_nothing(start_server, record) -> None:
    server: RunningServer = start_server()
    job = server.run("diarize", recording=server.upload(record("serve-many.wav", 4.0, 95)))
    enrol = f"/api/jobs/{job['id']}/speakers/1/enrol"
    names = [f"speaker {number}" for number in range(24)]
    with ThreadPoolExecutor(12) as pool:
        bodies = [{"name": name, "force": True} for name in names]
        responses = list(pool.map(lambda body: server.client.post(enrol, json=body), bodies))
    assert {response.status_code for response in responses} == {201}
    assert {s["name"] for s in server.client.get("/api/gallery").json()["speakers"]} == set(names)

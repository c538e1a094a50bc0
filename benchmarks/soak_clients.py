"""Clients of a server: good ones that check every answer, and hostile ones; used by soak_server.py."""

from __future__ import annotations

import json
import random
import socket
import struct
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "audio"))
from mutations import mutate, originals

# Generous, because nothing here may depend on how busy the machine is.
TIMEOUT, JOB_SECONDS = 300.0, 1200.0
# Status codes with which a server refuses a good request for a moment.
BUSY = (408, 429, 503)
LIMIT_MB = 2
CLOSED = "closed"
# What a server may answer to each kind of hostile request.
ALLOWED = {
    "slow sender": {"408", "429", CLOSED},
    "cancelled upload": {"cancelled"},
    "too large": {"413", "429"},
    "malformed form": {"400", "415", "422", "429"},
    "not audio": {"415", "429"},
    "damaged audio": {"413", "415", "429", "job done", "job failed", "job 429"},
    "name like a path": {"201", "429", "422", "405", "404"},
    "many connections": {"200", "429", "503"},
    "half-open connection": {"400", "408", "429", CLOSED},
    "not HTTP": {"400", "421", CLOSED},
    "invalid JSON": {"400", "404", "405", "413", "422", "429"},
    "abandoned job": {"204", "429"},
}


@dataclass
class Pace:
    """Delays requests so that the server takes a share of one core on average.

    Attributes:
        share: share of one core.
        pid: the server.
    """

    share: float
    pid: int
    stop: threading.Event
    started: float = field(default_factory=time.monotonic)

    def cpu_seconds(self) -> float:
        """Processor time of the server."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def wait(self) -> bool:
        """Wait for the next request; False when the clients must stop."""
        while not self.stop.is_set():
            # The first minute has a small credit, so that every kind of request comes early.
            if self.cpu_seconds() < self.share * (time.monotonic() - self.started + 60):
                return True
            self.stop.wait(0.5)
        return False


class Counts:
    """Counts that threads share."""

    def __init__(self) -> None:
        self.lock, self.counts, self.wrong = threading.Lock(), Counter[tuple[str, str]](), list[str]()

    def add(self, kind: str, outcome: str) -> None:
        with self.lock:
            self.counts[kind, outcome] += 1

    def fail(self, message: str) -> None:
        """Note what was not as expected."""
        with self.lock:
            self.wrong.append(message[:500])
        print(f"  wrong: {message[:500]}", file=sys.stderr, flush=True)


class Session:
    """Requests to the server, each on a connection of its own, repeated while the server is busy."""

    def __init__(self, url: str, counts: Counts) -> None:
        self.counts = counts
        limits = httpx.Limits(max_keepalive_connections=0)
        self.client = httpx.Client(base_url=url, timeout=TIMEOUT, limits=limits)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The response to a good request."""
        end = time.monotonic() + JOB_SECONDS
        while True:
            response = self.client.request(method, path, **options)
            if response.status_code not in BUSY or time.monotonic() > end:
                return response
            self.counts.add("good request repeated", str(response.status_code))
            if "retry-after" not in response.headers:
                self.counts.fail(f"{method} {path}: {response.status_code} without Retry-After")
            time.sleep(min(10.0, float(response.headers.get("retry-after", 1))))

    def upload(self, content: bytes, name: str, form: bool = False) -> str:
        """Upload a recording; returns its id."""
        if form:
            response = self.request("POST", "/api/recordings", files={"file": (name, content)})
        else:
            response = self.request("POST", "/api/recordings", params={"name": name}, content=content)
        if response.status_code != 201:
            raise ValueError(f"upload of {name}: {response.status_code} {response.text[:200]}")
        return response.json()["id"]

    def finish(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Start a job and wait until it is finished; returns its state."""
        response = self.request("POST", path, json=body)
        if response.status_code != 202:
            raise ValueError(f"{path}: {response.status_code} {response.text[:200]}")
        job, end = response.json(), time.monotonic() + JOB_SECONDS
        while job["state"] not in ("done", "failed", "cancelled"):
            if time.monotonic() > end:
                raise ValueError(f"{path}: not finished after {JOB_SECONDS:g} s")
            time.sleep(0.3)
            job = self.request("GET", f"/api/jobs/{job['id']}").json()
        return job

    def remove(self, path: str) -> None:
        """Remove something that exists."""
        response = self.request("DELETE", path)
        if response.status_code != 204:
            raise ValueError(f"DELETE {path}: {response.status_code} {response.text[:200]}")


def answer(session: Session, kind: str, name: str, content: bytes, other: bytes, form: bool) -> Any:
    """Upload a recording, run one kind of job on it, remove both, and return what the server answered.

    The names and scores of enrolled speakers are left out, because other clients change the gallery.
    """
    id_ = session.upload(content, name, form)
    ids = [id_]
    if kind == "verify":
        ids.append(session.upload(other, "other.wav"))
        job = session.finish("/api/verify", {"left": ids[:1], "right": ids[1:]})
    elif kind == "find":
        job = session.finish("/api/gallery/find", {"recording": id_, "count": 100})
    else:
        job = session.finish(f"/api/{kind}", {"recording": id_})
    if job["state"] != "done":
        raise ValueError(f"{kind} of {name}: {job['state']} {job['detail']}")
    result = job["result"]
    if kind == "diarize":
        for speaker in result["speakers"]:
            del speaker["identity"]
        rttm = session.request("GET", f"/api/jobs/{job['id']}/meeting.rttm").text
        wave = session.request("GET", f"/api/jobs/{job['id']}/speakers/1.wav").content
        result |= {"rttm": rttm, "wave": hash(wave)}
    elif kind == "find":
        result = [
            {c["name"]: c["score"] for c in speaker["identity"]["candidates"]}
            for speaker in result["speakers"]
        ]
    session.remove(f"/api/jobs/{job['id']}")
    for id_ in ids:
        session.remove(f"/api/recordings/{id_}")
    return result


def same(kind: str, found: Any, expected: Any) -> bool:
    """True if an answer is that of the start. For ``find``, the speakers enrolled at the start count."""
    if kind != "find":
        return bool(found == expected)
    if len(found) != len(expected):
        return False
    for scores, before in zip(found, expected, strict=True):
        best = max(before, key=lambda name: before[name])
        if best not in scores or any(abs(scores[n] - before[n]) > 1e-5 for n in before if n in scores):
            return False
    return True


class Hostile:
    """A client that sends what no client should.

    Args:
        port: port of the server on this machine.
    """

    def __init__(self, port: int, counts: Counts, seed: int, folder: Path, wave: bytes) -> None:
        self.port, self.counts, self.draw, self.wave = port, counts, random.Random(seed), wave
        folder.mkdir(parents=True)
        self.originals, self.session = originals(folder), Session(f"http://127.0.0.1:{port}", counts)
        self.open: list[tuple[float, socket.socket]] = []

    def act(self, kind: str) -> None:
        """Send one request of a kind in :data:`ALLOWED`."""
        for outcome in getattr(self, kind.replace("-", "_").replace(" ", "_").lower())():
            self.counts.add(kind, outcome)
            if outcome not in ALLOWED[kind]:
                self.counts.fail(f"{kind}: {outcome}")

    def close(self) -> None:
        """Close all connections that are still open."""
        for _, connection in self.open:
            connection.close()
        self.open.clear()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT)

    def head(
        self, length: int | None, path: str = "/api/recordings?name=x.wav", kind: str = "audio/wav"
    ) -> bytes:
        size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{size}\r\n\r\n".encode()

    def read(self, connection: socket.socket) -> str:
        """Status of the response, or that the connection was closed without one."""
        received = b""
        try:
            while b"\r\n" not in received and (part := connection.recv(4096)):
                received += part
        except OSError:
            pass  # the server has reset the connection
        connection.close()
        return received.split(b" ")[1].decode() if received.startswith(b"HTTP") else CLOSED

    def slow_sender(self) -> list[str]:
        connection = self.connect()
        connection.sendall(self.head(len(self.wave)))
        try:
            for at in range(0, len(self.wave), 300):
                connection.sendall(self.wave[at : at + 300])
                connection.settimeout(0.1)
                try:
                    connection.recv(1, socket.MSG_PEEK)
                    break
                except TimeoutError:
                    pass
                time.sleep(0.2)
        except OSError:
            pass  # the server has closed the connection
        connection.settimeout(TIMEOUT)
        return [self.read(connection)]

    def cancelled_upload(self) -> list[str]:
        connection = self.connect()
        chunked = self.draw.random() < 0.3
        connection.sendall(self.head(None if chunked else len(self.wave)))
        sent = self.wave[: self.draw.randrange(len(self.wave))]
        connection.sendall(f"{len(self.wave):x}\r\n".encode() + sent if chunked else sent)
        if self.draw.random() < 0.5:
            # Reset the connection instead of closing it in order.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        return ["cancelled"]

    def too_large(self) -> list[str]:
        connection = self.connect()
        if self.draw.random() < 0.5:
            connection.sendall(self.head(self.draw.choice((LIMIT_MB * 10**6 + 1, 10**12, 10**18))))
            return [self.read(connection)]
        try:
            connection.sendall(self.head(None))
            for _ in range(LIMIT_MB * 16 + 16):
                connection.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
        except OSError:
            pass  # the server has refused the rest
        found = self.read(connection)
        # A reset may discard the response before it is read.
        return ["413" if found == CLOSED else found]

    def malformed_form(self) -> list[str]:
        part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        bodies = [
            (b"", "multipart/form-data; boundary=b"),
            (part, "multipart/form-data; boundary=b"),
            (part + self.wave[:5000], "multipart/form-data; boundary=b"),
            (part + self.wave[:5000] + b"\r\n--b--", "multipart/form-data"),
            (part + self.wave[:5000] + b"\r\n--b--", "multipart/form-data; boundary=c"),
            (part + b"x\r\n" + part + b"y\r\n--b--", "multipart/form-data; boundary=b"),
            (b"--b\r\n" + b"X: y\r\n" * 5000 + b"\r\n--b--", "multipart/form-data; boundary=b"),
            (b"--b" + bytes(300), "multipart/form-data; boundary=b"),
            (self.draw.randbytes(3000), "multipart/form-data; boundary=" + "b" * 300),
            (
                b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--b--',
                "multipart/form-data; boundary=b",
            ),
        ]
        body, kind = self.draw.choice(bodies)
        return [self.post(body, kind)]

    def post(self, body: bytes, kind: str, path: str = "/api/recordings?name=x.wav", **headers: str) -> str:
        response = self.session.client.post(path, content=body, headers={"Content-Type": kind} | headers)
        if response.status_code == 201 and "/api/recordings" in path:
            self.session.remove(f"/api/recordings/{response.json()['id']}")
        elif response.status_code >= 400 and not response.json().get("detail"):
            self.counts.fail(f"{path}: {response.status_code} without a reason")
        return str(response.status_code)

    def not_audio(self) -> list[str]:
        size = self.draw.randrange(20_000)
        bodies = [b"", self.draw.randbytes(size), b"hello " * size, b"PK\x03\x04" + self.draw.randbytes(size)]
        bodies += [b"<svg onload=alert(1)>", b"#!/bin/sh\nexit 1\n", b"RIFF\xff\xff\xff\xffWAVE", bytes(size)]
        return [self.post(self.draw.choice(bodies), "application/octet-stream")]

    def damaged_audio(self) -> list[str]:
        kind = self.draw.choice(list(self.originals))
        content = mutate(self.originals[kind], self.draw.randrange(2**31))
        response = self.session.client.post("/api/recordings", params={"name": f"x.{kind}"}, content=content)
        if response.status_code != 201:
            return [str(response.status_code)]
        recording = response.json()["id"]
        try:
            job = self.session.finish("/api/embed", {"recording": recording})
        finally:
            self.session.remove(f"/api/recordings/{recording}")
        if job["state"] == "failed" and (job["status"] >= 500 or not job["detail"]):
            return [f"job failed with status {job['status']}: {job['detail']}"]
        self.session.remove(f"/api/jobs/{job['id']}")
        return [f"job {job['state']}"]

    def name_like_a_path(self) -> list[str]:
        names = [
            "../../../etc/passwd",
            "/etc/passwd",
            "..\\..\\x.wav",
            "a\0b.wav",
            "\n\r\t",
            "." * 300,
            "~/x",
        ]
        name = self.draw.choice(
            [*names, "file:///etc/passwd", "CON", "é" * 200, "\u202egpj.wav", "a/../../b"]
        )
        if self.draw.random() < 0.3:
            # As the name of a speaker who does not exist.
            path = f"/api/gallery/{httpx.QueryParams({'n': name})}".replace("n=", "", 1)
            return [str(self.session.client.delete(path.replace("+", "%20")).status_code)]
        options: dict[str, Any] = {"params": {"name": name}, "content": self.wave}
        if self.draw.random() < 0.5:
            options = {"files": {"file": (name, self.wave)}}
        response = self.session.client.post("/api/recordings", **options)
        if response.status_code == 201:
            shown = response.json()["name"]
            if "/" in shown or "\\" in shown or not shown.isprintable():
                self.counts.fail(f"the name {name!r} is shown as {shown!r}")
            self.session.remove(f"/api/recordings/{response.json()['id']}")
        return [str(response.status_code)]

    def many_connections(self) -> list[str]:
        connections = [self.connect() for _ in range(self.draw.choice((20, 60, 120)))]
        for connection in connections:
            connection.sendall(b"GET /api/about HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return [self.read(connection) for connection in connections]

    def half_open_connection(self) -> list[str]:
        """Open some, and read what happened to those of more than a minute ago."""
        now, outcomes = time.monotonic(), []
        for begun, connection in [entry for entry in self.open if now - entry[0] > 60]:
            self.open.remove((begun, connection))
            outcomes.append(self.read(connection))
        for _ in range(8 if len(self.open) < 60 else 0):
            connection = self.connect()
            starts = [b"", b"GET", b"GET / HTTP/1.1\r\nHost: loc", self.head(1000), self.head(None)]
            connection.sendall(self.draw.choice(starts))
            self.open.append((now, connection))
        return outcomes

    def not_http(self) -> list[str]:
        connection = self.connect()
        texts = [
            self.draw.randbytes(200),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60),
            b"\r\n" * 50,
        ]
        texts += [
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 30_000,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ]
        try:
            connection.sendall(self.draw.choice(texts))
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server has closed the connection
        return [self.read(connection)]

    def invalid_json(self) -> list[str]:
        bodies = [
            b"",
            b"{",
            b"[" * 50_000,
            b"null",
            b'{"recording": 1}',
            b'{"recording": "../x"}',
            b"9" * 5000,
        ]
        bodies += [
            b'{"recording": "' + b"x" * 300_000 + b'"}',
            b"\xff\xfe{}",
            b'{"name": "\\ud800", "recordings": []}',
        ]
        bodies += [json.dumps({"recording": "0" * 32}).encode(), b'{"recording": NaN}']
        path = self.draw.choice(
            ["/api/diarize", "/api/embed", "/api/verify", "/api/gallery", "/api/gallery/find"]
        )
        return [self.post(self.draw.choice(bodies), "application/json", path)]

    def abandoned_job(self) -> list[str]:
        """Start a job, follow its events for a moment, leave in the middle, and remove it."""
        response = self.session.client.post("/api/recordings", params={"name": "x.wav"}, content=self.wave)
        if response.status_code != 201:
            return [str(response.status_code)]
        recording = response.json()["id"]
        started = self.session.client.post("/api/diarize", json={"recording": recording})
        self.session.remove(f"/api/recordings/{recording}")
        if started.status_code != 202:
            return [str(started.status_code)]
        job = f"/api/jobs/{started.json()['id']}"
        if self.draw.random() < 0.5:
            connection = self.connect()
            connection.sendall(f"GET {job}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            time.sleep(self.draw.uniform(0, 2))
            connection.close()
        return [str(self.session.client.delete(job).status_code)]

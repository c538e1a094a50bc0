"""Hours of a server with good and hostile clients: answers, memory, files, and what it leaves.

    python benchmarks/soak_server.py [--minutes 120] [--share 0.25]

Good clients diarize, embed, verify, identify and enrol; every answer must be that of the start. Hostile
clients send slowly, too much, nothing, or what is no recording. Requests are paced so that the server takes a
share of one core. It is one part of benchmarks/soak.py.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

import watch
from separative import audio
from separative.corpora import load_corpus, synthesize_corpus
from separative.gallery import Gallery
from separative.model import load_model
from soak_clients import ALLOWED, LIMIT_MB, Counts, Hostile, Pace, Session, answer, same

Line = tuple[str, str, bool]
RATE = 16000
KINDS = ("diarize", "embed", "verify", "find")
BASE_SPEAKERS, KEPT = 4, 60
KEEP_MINUTES = 1.0
# Growth of memory that is allowed between the early and the late share of the time in watch.py.
GROWTH = 0.05
# Seconds in which a server with running uploads and jobs must stop.
STOP_SECONDS = 60.0


@dataclass
class Clients:
    """What the clients share.

    Attributes:
        recordings: bytes of recordings by name.
        expected: answers at the start by kind and name.
        enrolled: names that must be in the gallery at the end.
        removed: names that must not be in it or in its files.
    """

    port: int
    pace: Pace
    counts: Counts
    recordings: dict[str, bytes]
    expected: dict[tuple[str, str], Any] = field(default_factory=dict)
    enrolled: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)

    def session(self) -> Session:
        return Session(f"http://127.0.0.1:{self.port}", self.counts)

    def other(self, name: str) -> bytes:
        """The recording that ``name`` is verified against."""
        names = sorted(self.recordings)
        return self.recordings[names[(names.index(name) + 1) % len(names)]]

    def good(self, seed: int) -> None:
        """Run jobs on recordings, and compare the answers with those of the start."""
        session, draw = self.session(), random.Random(seed)
        while self.pace.wait():
            kind, name = draw.choice(sorted(self.expected))
            content, form = self.recordings[name], draw.random() < 0.5
            found = answer(session, kind, name, content, self.other(name), form)
            fine = same(kind, found, self.expected[kind, name])
            self.counts.add("good request", "as at the start" if fine else "differs")
            if not fine:
                self.counts.fail(f"{kind} of {name} is not as at the start: {json.dumps(found)[:300]}")

    def enrol(self, seed: int) -> None:
        """Enrol speakers, remove most of them, and rename some, while other clients do the same."""
        session, draw, number = self.session(), random.Random(seed), 0
        while self.pace.wait():
            number += 1
            name, recording = f"Person {seed} {number} Zoë", draw.choice(sorted(self.recordings))
            id_ = session.upload(self.recordings[recording], recording)
            body = {"name": name, "recordings": [id_], "force": True, "metadata": {"n": str(number)}}
            job = session.finish("/api/gallery", body)
            if job["state"] != "done":
                raise ValueError(f"enrolment of {name}: {job['detail']}")
            session.remove(f"/api/jobs/{job['id']}")
            session.remove(f"/api/recordings/{id_}")
            if draw.random() < 0.2:
                new = f"{name} renamed"
                renamed = session.request("PATCH", f"/api/gallery/{name}", json={"name": new})
                if renamed.status_code != 200:
                    raise ValueError(f"renaming {name}: {renamed.status_code} {renamed.text[:200]}")
                self.removed.add(name)
                name = new
            if name not in self.listed(session):
                self.counts.fail(f"{name} was enrolled and is not listed")
            if draw.random() < 0.2 and len(self.enrolled) < KEPT:
                self.enrolled.add(name)
                self.counts.add("enrolment", "kept")
                continue
            session.remove(f"/api/gallery/{name}")
            self.removed.add(name)
            if (
                name in self.listed(session)
                or session.request("DELETE", f"/api/gallery/{name}").status_code != 404
            ):
                self.counts.fail(f"{name} was removed and is still there")
            self.counts.add("enrolment", "removed")

    def hostile(self, seed: int, folder: Path) -> None:
        """Send one hostile request after another, of all kinds in turn."""
        client, draw = (
            Hostile(self.port, self.counts, seed, folder, min(self.recordings.values(), key=len)),
            random.Random(seed),
        )
        try:
            while self.pace.wait():
                kinds = list(ALLOWED)
                draw.shuffle(kinds)
                for kind in kinds:
                    if not self.pace.wait():
                        break
                    client.act(kind)
                    self.pace.stop.wait(draw.uniform(0, 3))
        finally:
            client.close()

    @staticmethod
    def listed(session: Session) -> set[str]:
        """Names of the enrolled speakers."""
        return {speaker["name"] for speaker in session.request("GET", "/api/gallery").json()["speakers"]}


def recordings(folder: Path) -> dict[str, bytes]:
    """Recordings of 4 to 8 s: four of one speaker each, and two conversations with overlap."""
    synthesize_corpus(folder, speakers=BASE_SPEAKERS + 2, utterances=4, dev_speakers=2, seed=5)
    waves: dict[str, Any] = {}
    corpus = load_corpus(folder)
    for utterance in corpus:
        wave_N, _ = audio.read(utterance.path, RATE)
        waves.setdefault(utterance.speaker, []).append(wave_N)
    joined = [np.concatenate(parts[:3])[: 8 * RATE] for parts in waves.values()][:BASE_SPEAKERS]
    clips = {f"speaker{n}.wav": wave_N for n, wave_N in enumerate(joined)}
    for n in (0, 2):
        half = min(len(joined[n]), len(joined[n + 1])) // 2
        clips[f"conversation{n}.wav"] = np.concatenate(
            [
                joined[n][:half],
                joined[n][half : 2 * half] + joined[n + 1][:half],
                joined[n + 1][half : 2 * half],
            ]
        )
    found = {}
    for name, wave_N in clips.items():
        path = folder / name
        audio.write(path, (0.5 * wave_N / np.abs(wave_N).max()).astype(np.float32), RATE)
        found[name] = path.read_bytes()
    return found


def observe(pid: int, samples: list[dict[str, Any]], stop: threading.Event) -> None:
    """Take a sample of the server every few seconds."""
    begun = time.monotonic()
    while not stop.is_set():
        samples.append({"seconds": time.monotonic() - begun, **sample(pid)})
        stop.wait(5.0)


def sample(pid: int) -> dict[str, Any]:
    """Memory (MiB), open files and threads of the server."""
    found = watch.sample(pid)
    return found | {"threads": len(list(Path(f"/proc/{pid}/task").iterdir()))}


def guarded(counts: Counts, work: Callable[..., None], *args: Any) -> None:
    """Run a client; an exception that ends it is a failure."""
    try:
        work(*args)
    except Exception as error:
        counts.fail(f"{work.__name__}: {type(error).__name__}: {error} {traceback.format_exc()[-300:]}")


def files_of(folder: Path) -> list[str]:
    """All files below a folder, except locks."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != "lock")


def start_server(folder: Path, log: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start the server; returns it and its port."""
    temporary = folder / "temporary"
    temporary.mkdir()
    words = ["serve", str(folder / "gallery"), "--port", "0", "--megabytes", str(LIMIT_MB)]
    words = [sys.executable, "-u", "-m", "separative", *words, "--keep-minutes", str(KEEP_MINUTES)]
    env = os.environ | {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as file:
        server = subprocess.Popen(words, env=env, stdout=file, stderr=file, start_new_session=True)
    end = time.monotonic() + 600
    while time.monotonic() < end and server.poll() is None:
        for word in log.read_text(errors="replace").split():
            if word.startswith("http://127.0.0.1:"):
                return server, httpx.URL(word).port or 80
        time.sleep(0.2)
    server.kill()
    raise SystemExit(f"the server did not start: {log.read_text(errors='replace')[-500:]}")


def run(minutes: float, folder: Path, share: float = 0.25) -> list[Line]:
    """Run the server and its clients; return what was tested, the outcome, and if it is as expected."""
    folder.mkdir(parents=True)
    clips, log = recordings(folder / "speech"), folder / "server.txt"
    server, port = start_server(folder, log)
    try:
        return _run(server, port, clips, minutes, folder, share, log)
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def _run(
    server: subprocess.Popen[bytes],
    port: int,
    clips: dict[str, bytes],
    minutes: float,
    folder: Path,
    share: float,
    log: Path,
) -> list[Line]:
    born = time.monotonic()
    counts, stop, fresh = Counts(), threading.Event(), sample(server.pid)
    clients = Clients(port, Pace(share, server.pid, stop), counts, clips)
    session = clients.session()
    for n in range(BASE_SPEAKERS):
        id_ = session.upload(clips[f"speaker{n}.wav"], f"speaker{n}.wav")
        job = session.finish("/api/gallery", {"name": f"Base {n}", "recordings": [id_], "force": True})
        assert job["state"] == "done", job
        clients.enrolled.add(f"Base {n}")
    right = 0
    for name, content in clips.items():
        for kind in KINDS:
            clients.expected[kind, name] = answer(session, kind, name, content, clients.other(name), False)
    for n in range(BASE_SPEAKERS):
        scores = clients.expected["find", f"speaker{n}.wav"][0]
        right += max(scores, key=lambda name: scores[name]) == f"Base {n}"
    clients.pace.started, used = time.monotonic(), clients.pace.cpu_seconds()
    clients.pace.started -= used / share
    begun, samples = time.monotonic(), list[dict[str, Any]]()
    threads = [threading.Thread(target=observe, args=(server.pid, samples, stop))]
    works: list[tuple[Any, ...]] = [(clients.good, seed) for seed in (1, 2, 3)]
    works += [(clients.enrol, seed) for seed in (4, 5)]
    works += [(clients.hostile, seed, folder / f"hostile{seed}") for seed in (6, 7)]
    threads += [threading.Thread(target=guarded, args=(counts, *work)) for work in works]
    for thread in threads:
        thread.start()
    while (left := minutes * 60 - (time.monotonic() - begun)) > 0 and server.poll() is None:
        time.sleep(min(left, 5))
    seconds, cpu = time.monotonic() - begun, clients.pace.cpu_seconds() - used
    stop.set()
    for thread in threads:
        thread.join()
    # Recordings that no client removed expire.
    end = time.monotonic() + 60 * (KEEP_MINUTES + 1) + 120
    while (left_over := files_of(folder / "temporary")) and time.monotonic() < end:
        time.sleep(1)
    quiet, names = sample(server.pid), clients.listed(session)
    lines = [
        *_requests(counts, time.monotonic() - born, cpu / seconds, right),
        *_enrolments(clients, names),
        *_growth(fresh, samples, quiet),
        ("temporary files when all clients have gone", str(len(left_over)), not left_over),
    ]
    lines.append(_stopping(server, clients))
    return [*lines, *_left_behind(folder, clients, log)]


def _requests(counts: Counts, life: float, share: float, right: int) -> list[Line]:
    by_kind: dict[str, dict[str, int]] = {}
    for (kind, outcome), number in sorted(counts.counts.items()):
        by_kind.setdefault(kind, {})[outcome] = number
    done = by_kind.get("good request", {})
    lines = [
        (
            f"{life / 60:.0f} minutes of a server, {share:.0%} of one core",
            f"{done.get('as at the start', 0)} good requests answered as at the start,"
            f" {done.get('differs', 0)} otherwise; {right} of {BASE_SPEAKERS} speakers identified",
            not done.get("differs") and done.get("as at the start", 0) > 0 and right == BASE_SPEAKERS,
        ),
        (
            "everything that was not as expected",
            f"{len(counts.wrong)}" + "".join(f"; {text}" for text in counts.wrong[:3]),
            not counts.wrong,
        ),
    ]
    repeated = by_kind.get("good request repeated", {})
    words = ", ".join(f"{number} after {status}" for status, number in repeated.items())
    lines.append(("good requests repeated, as the server asked", words or "none", True))
    for kind, allowed in ALLOWED.items():
        outcomes = by_kind.get(kind, {})
        words = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items())
        lines.append((f"hostile: {kind}", words or "none", bool(outcomes) and set(outcomes) <= allowed))
    return lines


def _enrolments(clients: Clients, names: set[str]) -> list[Line]:
    missing, extra = clients.enrolled - names, names - clients.enrolled
    found = (
        f"{len(clients.enrolled)} enrolled, {len(missing)} of them missing; {len(clients.removed)} removed,"
    )
    return [
        (
            "speakers enrolled and removed at the same time",
            f"{found} {len(extra)} of them still there",
            not missing and not extra,
        )
    ]


def _growth(fresh: dict[str, Any], samples: list[dict[str, Any]], quiet: dict[str, Any]) -> list[Line]:
    early, late = watch.growth(samples, "memory_mib")
    warm = [s for s in samples if s["seconds"] >= watch.EARLY[0] * samples[-1]["seconds"]]
    hours = [s["seconds"] / 3600 for s in warm]
    slope = float(np.polyfit(hours, [s["memory_mib"] for s in warm], 1)[0]) if len(warm) > 2 else 0.0
    change = late / early - 1
    lines = [
        (
            "memory of the server, MiB",
            f"{fresh['memory_mib']:.0f} at the start, {early:.0f} → {late:.0f} ({change:+.1%}),"
            f" {slope:+.1f} per hour, at most {max(s['memory_mib'] for s in samples):.0f}",
            change <= GROWTH,
        )
    ]
    for key, what in (("files", "open files"), ("threads", "threads")):
        busy = statistics.median(s[key] for s in warm)
        lines.append(
            (
                f"{what} of the server",
                f"{fresh[key]} before all clients, {busy:.0f} with them, {quiet[key]} after them",
                quiet[key] <= fresh[key] + 5,
            )
        )
    return lines


def _stopping(server: subprocess.Popen[bytes], clients: Clients) -> Line:
    """Stop the server while a job runs, an upload sends slowly and a connection is half open."""
    session, client = (
        clients.session(),
        Hostile(clients.port, clients.counts, 9, Path(tempfile.mkdtemp()) / "x", b"x"),
    )
    id_ = session.upload(clients.recordings["conversation0.wav"], "last.wav")
    session.request("POST", "/api/diarize", json={"recording": id_})
    connections = [client.connect() for _ in range(3)]
    connections[0].sendall(client.head(100_000) + bytes(2000))
    connections[1].sendall(b"GET / HTTP/1.1\r\n")
    started = time.monotonic()
    server.send_signal(signal.SIGTERM)
    try:
        code: int | None = server.wait(timeout=10 * STOP_SECONDS)
    except subprocess.TimeoutExpired:
        code = None
    seconds = time.monotonic() - started
    for connection in connections:
        connection.close()
    fine = code in (0, -signal.SIGTERM, 128 + signal.SIGTERM) and seconds <= STOP_SECONDS
    return ("stop with a running job and a slow upload", f"exit code {code} after {seconds:.1f} s", fine)


def _left_behind(folder: Path, clients: Clients, log: Path) -> list[Line]:
    left = [path.name for path in (folder / "temporary").iterdir()]
    with Gallery(folder / "gallery", load_model("base")) as gallery:
        names = {speaker.name for speaker in gallery.list()}
    files = [p for p in (folder / "gallery").rglob("*") if p.is_file()]
    # A name that was extended by a new one is still in the file as a part of it.
    gone = [n for n in clients.removed if not any(n in kept for kept in clients.enrolled)]
    content = b"".join(path.read_bytes() for path in files)
    traces = [name for name in gone if name.encode() in content]
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    lines = [line for line in text if "http://127.0.0.1" not in line and line.strip()]
    shown = [line for line in lines if "Invalid HTTP request" not in line]
    print("\n".join(["  log of the server:", *shown[-100:]]), file=sys.stderr, flush=True)
    return [
        ("temporary files after the stop", str(len(left)), not left),
        (
            "gallery, read again after the stop",
            f"{len(names)} speakers in {len(files)} files, {len(traces)} traces of {len(gone)} removed names",
            names == clients.enrolled and not traces and len(files) <= 3,
        ),
        (
            "log of the server",
            f"{sum('Traceback' in x for x in lines)} tracebacks, {len(lines)} lines",
            not any("Traceback" in x for x in lines),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=120.0, help="minutes of requests")
    parser.add_argument(
        "--share", type=float, default=0.25, help="share of one core that the server may take"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        lines = run(args.minutes, Path(name) / "server", args.share)
    for what, found, fine in lines:
        print(f"{'as expected' if fine else 'NOT AS EXPECTED'}: {what}: {found}")
    sys.exit(not all(fine for *_, fine in lines))


if __name__ == "__main__":
    main()

"""Twenty clients of one server: responses, response times, and memory of the server.

    python benchmarks/bench_serve.py                      # rewrites docs/benchmarks/serve.md
    python benchmarks/bench_serve.py --seconds 20 --page -

Each client posts a recording of 10 s, diarizes it, downloads the result and a separated speaker, deletes
everything and starts again. After status 429 it waits and retries. The weights are random unless ``--model``
is given.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np

from common import PAGES, Promise, made_on, table, write_page
from separative import audio

RATE, LENGTH = 16000, 10.0
PORT = 8765
# Share of the time after which memory is measured: until then caches fill and threads start.
WARM = 0.25
GROWTH = 1.1


class Client(threading.Thread):
    """A client that works until ``stop`` is set.

    ``statuses`` counts the responses by status, ``rounds`` has the seconds of each complete round.
    """

    def __init__(self, number: int, url: str, recording: bytes, stop: threading.Event) -> None:
        super().__init__()
        self.number, self.url, self.recording, self.stop = number, url, recording, stop
        self.statuses: Counter[str] = Counter()
        self.rounds: list[float] = []
        self.without_retry_after = 0

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=120) as self.client:
            while not self.stop.is_set():
                begun = time.perf_counter()
                if self.round():
                    self.rounds.append(time.perf_counter() - begun)

    def request(self, method: str, path: str, **options: object) -> httpx.Response | None:
        """The response, or None when the client must stop. After status 429 it waits and retries."""
        while True:
            try:
                response = self.client.request(method, path, **options)  # type: ignore[arg-type]
            except httpx.HTTPError as error:
                self.statuses[type(error).__name__] += 1
                return None
            self.statuses[str(response.status_code)] += 1
            if response.status_code != 429:
                return response
            self.without_retry_after += "retry-after" not in response.headers
            if self.stop.wait(float(response.headers.get("retry-after", 1))):
                return None

    def round(self) -> bool:
        held = self.request(
            "POST", "/api/recordings", params={"name": f"{self.number}.wav"}, content=self.recording
        )
        if held is None or held.status_code != 201:
            return False
        recording = f"/api/recordings/{held.json()['id']}"
        started = self.request("POST", "/api/diarize", json={"recording": held.json()["id"]})
        done = False
        if started is not None and started.status_code == 202:
            job = f"/api/jobs/{started.json()['id']}"
            while (found := self.request("GET", job)) is not None and found.status_code == 200:
                state = found.json()["state"]
                if state in ("done", "failed", "cancelled"):
                    self.statuses[f"job {state}"] += 1
                    done = state == "done"
                    break
                time.sleep(0.5)
            if done:
                self.request("GET", f"{job}/speakers/1.wav")
            self.request("DELETE", job)
        self.request("DELETE", recording)
        return done


def resident_mib(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def save_random_model(folder: Path) -> Path:
    import torch

    from separative.model import SeparativeEncoder, save_model
    from separative.training import load_recipe

    torch.manual_seed(0)
    return save_model(SeparativeEncoder(load_recipe("small").model).eval(), folder / "model")


def make_recording(folder: Path, number: int) -> bytes:
    rng = np.random.default_rng(number)
    wave_N = 0.1 * rng.standard_normal(round(LENGTH * RATE)) * np.abs(np.sin(np.arange(LENGTH * RATE) / 3000))
    path = folder / f"{number}.wav"
    audio.write(path, wave_N.astype(np.float32), RATE)
    return path.read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="model folder")
    parser.add_argument("--clients", type=int, default=20, help="number of clients")
    parser.add_argument("--seconds", type=float, default=120.0, help="duration")
    parser.add_argument("--page", default=str(PAGES / "serve.md"), help="page to write; - prints it")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = args.model or save_random_model(folder)
        words = ["serve", str(folder / "gallery"), "--model", str(model), "--port", str(PORT)]
        temporary = folder / "temporary"
        temporary.mkdir()
        server = subprocess.Popen(
            [sys.executable, "-m", "separative", *words], env=os.environ | {"TMPDIR": str(temporary)}
        )
        url = f"http://127.0.0.1:{PORT}"
        try:
            while True:
                try:
                    httpx.get(f"{url}/api/about")
                    break
                except httpx.HTTPError:
                    if server.poll() is not None:
                        raise SystemExit("the server did not start") from None
                    time.sleep(0.2)
            fresh, stop = resident_mib(server.pid), threading.Event()
            clients = [Client(n, url, make_recording(folder, n), stop) for n in range(args.clients)]
            begun = time.monotonic()
            for client in clients:
                client.start()
            memory: list[tuple[float, float]] = []
            while (now := time.monotonic() - begun) < args.seconds:
                memory.append((now, resident_mib(server.pid)))
                time.sleep(min(1.0, args.seconds / 20))
            stop.set()
            for client in clients:
                client.join()
            left = [path for path in temporary.rglob("*") if path.is_file() and path.name != "lock"]
        finally:
            server.terminate()
            server.wait(timeout=60)
        after = list(temporary.iterdir())
    statuses = sum((client.statuses for client in clients), Counter())
    rounds = sorted(seconds for client in clients for seconds in client.rounds)
    warm = [mib for at, mib in memory if WARM * args.seconds <= at < 0.5 * args.seconds]
    late = [mib for at, mib in memory if at >= 0.75 * args.seconds]
    growth = max(late) / max(warm)
    fine = {s: n for s, n in statuses.items() if s.startswith("2") or s in ("429", "job done")}
    other = {s: n for s, n in statuses.items() if s not in fine}
    without_retry_after = sum(client.without_retry_after for client in clients)
    lines = [
        "# A busy server",
        "",
        f"{args.clients} clients post and diarize recordings of {LENGTH:g} s for {args.seconds:g} s.",
        f"The model is {'`small` with random weights' if args.model is None else args.model}.",
        "Clients and server run on the same machine.",
        *made_on([load], "torch", "fastapi", "uvicorn", "httpx"),
        "",
        *table(["response", "count"], [[status, str(n)] for status, n in sorted(statuses.items())]),
        "",
        f"Recordings diarized: {statuses['job done']}, {statuses['job done'] / args.seconds:.2f} per second."
        + (
            f" A round from upload to deletion takes {rounds[len(rounds) // 2]:.1f} s (median),"
            f" at most {rounds[-1]:.1f} s."
            if rounds
            else ""
        ),
        f"Memory of the server: {fresh:.0f} MiB before the first client, at most {max(warm):.0f} MiB in the"
        f" second quarter of the time and at most {max(late):.0f} MiB in the last quarter.",
        "",
        f"Made by `python benchmarks/bench_serve.py`{'' if args.model is None else ' with `--model`'}.",
    ]
    write_page(
        args.page,
        lines,
        [
            Promise(
                f"{args.clients} clients of a server: responses other than 2xx, or 429 with Retry-After",
                f"{sum(other.values()) + without_retry_after}",
                "0",
                not other and not without_retry_after,
            ),
            Promise("memory growth of a busy server", f"{growth:.3f}", f"≤ {GROWTH}", growth <= GROWTH),
            Promise(
                "temporary files left by a busy server",
                f"{len(left) + len(after)}",
                "0",
                not left and not after,
            ),
        ],
    )


if __name__ == "__main__":
    main()

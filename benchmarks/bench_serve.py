"""Twenty clients at one server: what is answered, how soon, and what it does to the server's memory.

    python benchmarks/bench_serve.py                      # rewrites docs/benchmarks/serve.md
    python benchmarks/bench_serve.py --seconds 20 --page -

Each client posts a recording of 10 s, has it diarized, fetches the result and a voice, deletes all, and
begins again; where it is told to come back later, it does. Weights are random unless ``--model`` names some.
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

from common import PAGES, Promise, made_on, put
from separative import audio

RATE, LENGTH = 16000, 10.0
PORT = 8765
# Caches fill, threads begin: memory counts from here on.
WARM = 0.25
GROWTH = 1.1


class Client(threading.Thread):
    """One after another, until told to stop; ``statuses`` of all answers, seconds of each whole round."""

    def __init__(self, number: int, url: str, sound: bytes, stop: threading.Event) -> None:
        super().__init__()
        self.number, self.url, self.sound, self.stop = number, url, sound, stop
        self.statuses: Counter[str] = Counter()
        self.rounds: list[float] = []
        self.mute_429 = 0

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=120) as self.client:
            while not self.stop.is_set():
                begun = time.perf_counter()
                if self.round():
                    self.rounds.append(time.perf_counter() - begun)

    def ask(self, method: str, path: str, **options: object) -> httpx.Response | None:
        """An answer; None once it is over. 429 is waited out, as long as it says how long."""
        while True:
            try:
                answer = self.client.request(method, path, **options)  # type: ignore[arg-type]
            except httpx.HTTPError as error:
                self.statuses[type(error).__name__] += 1
                return None
            self.statuses[str(answer.status_code)] += 1
            if answer.status_code != 429:
                return answer
            self.mute_429 += "retry-after" not in answer.headers
            if self.stop.wait(float(answer.headers.get("retry-after", 1))):
                return None

    def round(self) -> bool:
        held = self.ask("POST", "/api/recordings", params={"name": f"{self.number}.wav"}, content=self.sound)
        if held is None or held.status_code != 201:
            return False
        recording = f"/api/recordings/{held.json()['id']}"
        started = self.ask("POST", "/api/diarize", json={"recording": held.json()["id"]})
        done = False
        if started is not None and started.status_code == 202:
            job = f"/api/jobs/{started.json()['id']}"
            while (found := self.ask("GET", job)) is not None and found.status_code == 200:
                state = found.json()["state"]
                if state in ("done", "failed", "cancelled"):
                    self.statuses[f"job {state}"] += 1
                    done = state == "done"
                    break
                time.sleep(0.5)
            if done:
                self.ask("GET", f"{job}/voices/1.wav")
            self.ask("DELETE", job)
        self.ask("DELETE", recording)
        return done


def resident_mib(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def model_of(folder: Path) -> Path:
    import torch

    from separative.model import SeparativeEncoder, save_model
    from separative.training import load_recipe

    torch.manual_seed(0)
    return save_model(SeparativeEncoder(load_recipe("small").model).eval(), folder / "model")


def sound(folder: Path, number: int) -> bytes:
    rng = np.random.default_rng(number)
    wave_N = 0.1 * rng.standard_normal(round(LENGTH * RATE)) * np.abs(np.sin(np.arange(LENGTH * RATE) / 3000))
    path = folder / f"{number}.wav"
    audio.write(path, wave_N.astype(np.float32), RATE)
    return path.read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="folder of a model")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--page", default=str(PAGES / "serve.md"), help="file to write, - to print")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = args.model or model_of(folder)
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
            clients = [Client(n, url, sound(folder, n), stop) for n in range(args.clients)]
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
    mute = sum(client.mute_429 for client in clients)
    lines = [
        "# A busy server",
        "",
        f"{args.clients} clients for {args.seconds:g} s, each posting recordings of {LENGTH:g} s to be"
        f" diarized by"
        f" {'a model with random weights, as large as `small`' if args.model is None else args.model};",
        "clients and server share the machine.",
        *made_on([load], "torch", "fastapi", "uvicorn", "httpx"),
        "",
        "| answers | |",
        "|---|---|",
        *(f"| {status} | {number} |" for status, number in sorted(statuses.items())),
        "",
        f"Recordings diarized: {statuses['job done']}, {statuses['job done'] / args.seconds:.2f} a second."
        + (
            f" From post to deletion {rounds[len(rounds) // 2]:.1f} s in the median,"
            f" {rounds[-1]:.1f} s at most."
            if rounds
            else ""
        ),
        f"Memory of the server: {fresh:.0f} MiB before the first client, at most {max(warm):.0f} MiB in the"
        f" second quarter of the time and {max(late):.0f} MiB in the last.",
        "",
        f"Made by `python benchmarks/bench_serve.py`{'' if args.model is None else ' with `--model`'}.",
    ]
    put(
        args.page,
        lines,
        [
            Promise(
                f"{args.clients} clients at a server: answers that are neither 2xx nor 429 with Retry-After",
                f"{sum(other.values()) + mute}",
                "0",
                not other and not mute,
            ),
            Promise("memory of a busy server: its growth", f"{growth:.3f}", f"≤ {GROWTH}", growth <= GROWTH),
            Promise(
                "temporary files of a busy server, once clients and server are gone",
                f"{len(left) + len(after)}",
                "0",
                not left and not after,
            ),
        ],
    )


if __name__ == "__main__":
    main()

"""Streaming diarization compared with diarization of the whole recording: errors, and computing time.

    python benchmarks/bench_listen.py --data DATA [--count 2]   # rewrites docs/benchmarks/listen.md

DATA holds ``speech.csv`` and ``meetings.csv``. Runs the shipped model on simulated conversations (split
dev) and on the real recordings.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common import Promise, Record, arguments, made_on, parsed, run_child, table, write_page
from separative.inference.streaming import HORIZON, LATENCY, StreamingDiarizer
from separative.inference.updates import StreamingTurns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from separative.inference import StreamingUpdate
    from separative.inference.revision import PastWindows
    from separative.rttm import Turn
    from separative.types import Floats, Wave

SEED, FRAME = 51, 0.01
KINDS = ((3, 0.2), (4, 0.2))
# Latency and horizon, in seconds.
SETTINGS = ((LATENCY, HORIZON), (1.0, HORIZON), (1.5, HORIZON), (LATENCY, 10.0))
PARTS = ("missed", "false_alarm", "confusion")
HEADER = ["recordings", "results", "DER, %", "worst DER, %", "missed", "false alarm", "confusion"]
HEADER += ["correct speaker counts"]


class Replay(StreamingDiarizer):
    """Runs the model only on windows that ``known`` does not have; other settings use the same windows."""

    known: dict[int, PastWindows]

    def _run(self, wave_N: Wave) -> tuple[PastWindows, Floats]:
        start = self.state.window * self._step_segments - self._lead
        if start not in self.known:
            self.known[start], estimate_CN = super()._run(wave_N)
            return self.known[start], estimate_CN
        return self.known[start], np.zeros((self.model.streams, len(wave_N)), np.float32)


def recordings(case: Record) -> Iterator[tuple[Wave, int, np.ndarray]]:
    """Waveform, sampling rate and reference [K, T] of each recording of a case."""
    from separative import audio
    from separative.corpora import load_corpus
    from separative.evaluation import read_references
    from separative.mixtures import ConversationConfig, ConversationSimulator
    from separative.rttm import turns_to_frames

    data, rate = Path(case["data"]), 16000
    if not case["speakers"]:
        for recording in read_references(data / "meetings.csv")[0]:
            wave_N = audio.read(recording.path, rate)[0]
            yield wave_N, rate, in_frames(recording.turns, round(len(wave_N) / rate / FRAME))
        return
    speech = load_corpus(data / "speech.csv", split="dev", keep_damaged=True)
    config = ConversationConfig(
        rate=rate, seconds=case["seconds"], speakers=case["speakers"], overlap=case["overlap"]
    )
    source = ConversationSimulator(speech.filter(lambda u: u.speaker is not None), config, seed=SEED)
    for number in range(case["count"]):
        talk = source.conversation(number)
        frames = round(talk.samples / talk.rate / FRAME)
        reference_KT = turns_to_frames(talk.speech_turns(), talk.names, frames, FRAME)
        yield talk.render(0, talk.samples)[0], rate, reference_KT


def in_frames(turns: list[Turn], frames: int) -> np.ndarray:
    """Activity [K, T] of the speakers of some turns."""
    from separative.rttm import turns_to_frames

    return turns_to_frames(turns, sorted({turn.speaker for turn in turns}), frames, FRAME)


def measure(case: Record) -> Record:
    """Diarize recordings of one kind in all ways: parts of the error in seconds, counts, times."""
    import torch

    from separative.inference import diarize
    from separative.metrics import diarization_error
    from separative.model import load_model

    torch.set_num_threads(case["threads"])
    model = load_model(case["model"])
    ways: dict[str, list[Record]] = {}
    found: Record = {"ways": ways, "piece_s": [], "cpu_s": 0.0, "seconds": 0.0}
    for wave_N, rate, reference_KT in recordings(case):
        frames = reference_KT.shape[1]
        results = {"diarize": diarize(model, (wave_N, rate)).turns}
        known: dict[int, PastWindows] = {}
        for latency, horizon in SETTINGS:
            streaming = Replay(model, latency=latency, horizon=horizon)
            streaming.known = known
            first = not known
            cpu, updates = time.process_time(), []
            # Push a quarter of a second at a time, as a microphone would.
            for piece_N in np.split(wave_N, range(rate // 4, len(wave_N), rate // 4)):
                started = time.perf_counter()
                updates += streaming.push(piece_N)
                if first:
                    found["piece_s"].append(time.perf_counter() - started)
            updates += streaming.finish()
            if first:
                found["cpu_s"] += time.process_time() - cpu
                found["seconds"] += len(wave_N) / rate
                found["latency"] = streaming.latency
            name = f"listen, latency {streaming.latency:.2f} s"
            results[f"{name}, corrected for {horizon:.0f} s"] = turns_of(updates, model.segment_seconds)
            results[f"{name}, as first reported"] = turns_of(updates, model.segment_seconds, corrected=False)
        for way, turns in results.items():
            active_KT = in_frames(turns, frames)
            error = diarization_error(reference_KT, active_KT, FRAME)
            figures = {part: getattr(error, part) for part in ("total", *PARTS)}
            figures["right"] = int(len(active_KT) == reference_KT.any(1).sum())
            ways.setdefault(way, []).append(figures)
    return found


def turns_of(updates: list[StreamingUpdate], segment_seconds: float, *, corrected: bool = True) -> list[Turn]:
    """Turns that follow from the updates, with or without their corrections."""
    from dataclasses import replace

    log = StreamingTurns(segment_seconds)
    log.add(updates if corrected else [replace(update, corrections=()) for update in updates])
    return log.turns()


def error_rate(some: list[Record]) -> float:
    """Diarization error over all recordings, in %."""
    return 100 * sum(one[part] for one in some for part in PARTS) / sum(one["total"] for one in some)


def row(kind: str, way: str, some: list[Record]) -> list[str]:
    """A row of the table: errors in % of all speech, then counts."""
    total = sum(one["total"] for one in some)
    each = [100 * sum(one[part] for one in some) / total for part in PARTS]
    worst = max(error_rate([one]) for one in some)
    cells = [kind, way, *(f"{x:.1f}" for x in (error_rate(some), worst, *each))]
    return [*cells, f"{sum(one['right'] for one in some)} of {len(some)}"]


def main() -> None:
    parser = arguments(__doc__, "listen.md", runs=1, rounds=1)
    parser.add_argument("--data", help="folder with speech.csv and meetings.csv")
    parser.add_argument("--model", default="base", help="model name or folder")
    parser.add_argument("--count", type=int, default=2, help="number of conversations of each kind")
    parser.add_argument("--seconds", type=float, default=600.0, help="length of a conversation")
    args = parsed(parser, measure, needed=["data"])
    loads, rows, pieces, above = [os.getloadavg()[0]], [], [], {}
    cpu, seconds, latency = 0.0, 0.0, 0.0
    for speakers, overlap in ((0, 0.0), *KINDS):
        case = {"speakers": speakers, "overlap": overlap}
        case |= {key: getattr(args, key) for key in ("data", "model", "count", "seconds", "threads")}
        found = run_child(__file__, case)
        kind = f"simulated, {speakers} speakers, {overlap:.0%} overlap" if speakers else "real"
        rows += [row(kind, way, some) for way, some in found["ways"].items()]
        listen = next(some for way, some in found["ways"].items() if "corrected" in way)
        above[kind] = error_rate(listen) - error_rate(found["ways"]["diarize"])
        pieces += found["piece_s"]
        cpu, seconds = cpu + found["cpu_s"], seconds + found["seconds"]
        latency = found["latency"]
    usual, slow = np.quantile(pieces, [0.5, 0.99]).tolist()
    write_page(
        args.page,
        [
            "# Streaming diarization",
            "",
            f"Real recordings, and {args.count} simulated conversations of {args.seconds:.0f} s per kind,",
            f"of speakers that the model was not trained on (seed {SEED}).",
            "`diarize` processes the whole recording. `listen` reports the speakers after the latency, and",
            "corrects its results for the time given. Worst DER is that of one recording.",
            *made_on(loads, "torch"),
            "",
            *table(HEADER, rows),
            "",
            f"`listen` needs {cpu / seconds:.2f} s of processor time per second of audio, with",
            f"{args.threads} threads. A quarter of a second of audio takes {1000 * usual:.0f} ms",
            f"(99th percentile {1000 * slow:.0f} ms). These times include revisions.",
            "",
            f"Made by `python benchmarks/bench_listen.py --data DATA --count {args.count}"
            f" --seconds {args.seconds:.0f} --threads {args.threads}`.",
        ],
        [
            Promise("listen: latency", f"{latency:.2f} s", "≤ 0.6 s", latency <= 0.6),
            *(
                Promise(f"listen: error above diarize, {kind}", f"{x:.1f} points", "≤ 3 points", x <= 3)
                for kind, x in above.items()
            ),
            Promise(
                "listen: processor time per second of audio",
                f"{cpu / seconds:.2f} s",
                "< 1 s",
                cpu < seconds,
            ),
        ],
    )


if __name__ == "__main__":
    main()

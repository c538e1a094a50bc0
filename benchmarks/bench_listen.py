"""Listening while people speak, beside analysis of the whole recording: errors, and the time a piece takes.

    python benchmarks/bench_listen.py --corpus speech.csv [--count 4]   # rewrites docs/benchmarks/listen.md

Simulated conversations of five minutes (split dev), by the model that comes with the package.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import numpy as np

from common import Promise, Record, arguments, made_on, parsed, put, run_child

if TYPE_CHECKING:
    from separative.inference import Update

SECONDS, SEED, FRAME = 300.0, 51, 0.01
KINDS = ((2, 0.2), (3, 0.2), (4, 0.2), (3, 0.4))
PARTS = ("missed", "false_alarm", "confusion")


def measure(case: Record) -> Record:
    """Conversations of one kind, heard in both ways: parts of the error in seconds, speakers, swaps, times."""
    import torch

    from separative.corpora import load_corpus
    from separative.inference import StreamingDiarizer, diarize
    from separative.metrics import diarization_error, swaps
    from separative.mixtures import ConversationConfig, Conversations
    from separative.model import load_model
    from separative.rttm import active_frames

    torch.set_num_threads(case["threads"])
    model = load_model(case["model"])
    speech = load_corpus(case["corpus"], split="dev", keep_damaged=True)
    config = ConversationConfig(
        rate=model.rate, seconds=SECONDS, speakers=case["speakers"], overlap=case["overlap"]
    )
    source = Conversations(speech.filter(lambda u: u.speaker is not None), config, seed=SEED)
    found: Record = {"listen": [], "diarize": [], "piece_s": [], "latency": StreamingDiarizer(model).latency}
    for number in range(case["count"]):
        talk = source.conversation(number)
        mix_N, _ = talk.render(0, talk.samples)
        frames = round(talk.samples / talk.rate / FRAME)
        reference_KT = active_frames(talk.speech(), talk.names, frames, FRAME)
        listener, updates = StreamingDiarizer(model), []
        # As a microphone would, a piece at a time.
        for piece_N in np.split(mix_N, range(model.rate // 2, len(mix_N), model.rate // 2)):
            started = time.perf_counter()
            updates += listener.push(piece_N)
            found["piece_s"].append(time.perf_counter() - started)
        updates += listener.finish()
        meeting = diarize(model, (mix_N, talk.rate))
        names = [speaker.name for speaker in meeting.speakers]
        ways = {
            "listen": spoken(updates, frames, model.segment_seconds),
            "diarize": active_frames(meeting.turns, names, frames, FRAME),
        }
        for way, said_KT in ways.items():
            error = diarization_error(reference_KT, said_KT, FRAME)
            figures = {part: getattr(error, part) for part in ("total", *PARTS)}
            figures["right"] = int(len(said_KT) == reference_KT.any(1).sum())
            found[way].append(figures | {"swaps": swaps(reference_KT, said_KT, FRAME)})
    return found


def spoken(updates: list[Update], frames: int, segment_seconds: float) -> np.ndarray:
    """Who was said to speak in every frame [K,T]."""
    count = len(updates[-1].activity_KS)
    said_KS = np.concatenate(
        [np.pad(u.activity_KS, ((0, count - len(u.activity_KS)), (0, 0))) for u in updates], axis=1
    )
    segment_T = ((np.arange(frames) + 0.5) * FRAME / segment_seconds).astype(int)
    return said_KS[:, segment_T.clip(max=said_KS.shape[1] - 1)] > 0.5


def row(kind: str, way: str, some: list[Record]) -> str:
    """A line of the table: errors in % of all speech, then counts."""
    total = sum(one["total"] for one in some)
    each = [100 * sum(one[part] for one in some) / total for part in PARTS]
    worst = max(100 * sum(one[part] for part in PARTS) / one["total"] for one in some)
    cells = [kind, way, *(f"{x:.1f}" for x in (sum(each), worst, *each))]
    cells += [f"{sum(one['right'] for one in some)} of {len(some)}", str(sum(one["swaps"] for one in some))]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = arguments(__doc__, "listen.md", runs=1, rounds=1)
    parser.add_argument("--corpus", help="speech with the split dev")
    parser.add_argument("--model", default="base")
    parser.add_argument("--count", type=int, default=4, help="conversations of each kind")
    args = parsed(parser, measure, needed=["corpus"])
    loads, lines, pieces, latency = [os.getloadavg()[0]], [], [], 0.0
    for speakers, overlap in KINDS:
        case = {"speakers": speakers, "overlap": overlap}
        case |= {key: getattr(args, key) for key in ("corpus", "model", "count", "threads")}
        found = run_child(__file__, case)
        kind = f"{speakers} speakers, {overlap:.0%} overlap"
        lines += [row(kind, way, found[way]) for way in ("listen", "diarize")]
        pieces += found["piece_s"]
        latency = max(latency, found["latency"])
    usual, slow = np.quantile(pieces, [0.5, 0.99]).tolist()
    put(
        args.page,
        [
            "# While they speak",
            "",
            f"{args.count} simulated conversations of {SECONDS:.0f} s of each kind (seed {SEED}), of speakers"
            f" that the model was not trained on.",
            f"`listen` says {latency:.2f} s after a moment who spoke in it"
            f" and takes nothing back; `diarize` hears all of the recording first. {args.threads} threads.",
            *made_on(loads, "torch"),
            "",
            "| conversations | | DER, % | worst | missed | false alarm | confusion | count right | swaps |",
            "|---|---|---|---|---|---|---|---|---|",
            *lines,
            "",
            f"Half a second of sound takes {1000 * usual:.0f} ms (99th percentile {1000 * slow:.0f} ms).",
            "",
            f"Made by `python benchmarks/bench_listen.py --corpus speech.csv --count {args.count}`.",
        ],
        [
            Promise("listen: said after", f"{latency:.2f} s", "≤ 2 s", latency <= 2),
            Promise(
                "listen: work for half a second of sound, 99 of 100",
                f"{1000 * slow:.0f} ms",
                "< 500 ms",
                slow < 0.5,
            ),
        ],
    )


if __name__ == "__main__":
    main()

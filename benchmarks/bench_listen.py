"""Streaming diarization compared with diarization of the whole recording: errors, and computing time.

    python benchmarks/bench_listen.py --corpus speech.csv [--count 4]   # rewrites docs/benchmarks/listen.md

Runs the shipped model on simulated conversations of five minutes (split dev).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import numpy as np

from common import Promise, Record, arguments, made_on, parsed, run_child, table, write_page

if TYPE_CHECKING:
    from separative.inference import StreamingUpdate

SECONDS, SEED, FRAME = 300.0, 51, 0.01
KINDS = ((2, 0.2), (3, 0.2), (4, 0.2), (3, 0.4))
PARTS = ("missed", "false_alarm", "confusion")
HEADER = ["conversations", "command", "DER, %", "worst DER, %", "missed", "false alarm", "confusion"]
HEADER += ["correct speaker counts", "swaps"]


def measure(case: Record) -> Record:
    """Diarize conversations of one kind in both ways: parts of the error in seconds, counts, times."""
    import torch

    from separative.corpora import load_corpus
    from separative.inference import StreamingDiarizer, diarize
    from separative.metrics import count_swaps, diarization_error
    from separative.mixtures import ConversationConfig, ConversationSimulator
    from separative.model import load_model
    from separative.rttm import turns_to_frames

    torch.set_num_threads(case["threads"])
    model = load_model(case["model"])
    speech = load_corpus(case["corpus"], split="dev", keep_damaged=True)
    config = ConversationConfig(
        rate=model.rate, seconds=SECONDS, speakers=case["speakers"], overlap=case["overlap"]
    )
    source = ConversationSimulator(speech.filter(lambda u: u.speaker is not None), config, seed=SEED)
    found: Record = {"listen": [], "diarize": [], "piece_s": [], "latency": StreamingDiarizer(model).latency}
    for number in range(case["count"]):
        talk = source.conversation(number)
        mix_N, _ = talk.render(0, talk.samples)
        frames = round(talk.samples / talk.rate / FRAME)
        reference_KT = turns_to_frames(talk.speech_turns(), talk.names, frames, FRAME)
        streaming, updates = StreamingDiarizer(model), []
        # Push half a second at a time, as a microphone would.
        for piece_N in np.split(mix_N, range(model.rate // 2, len(mix_N), model.rate // 2)):
            started = time.perf_counter()
            updates += streaming.push(piece_N)
            found["piece_s"].append(time.perf_counter() - started)
        updates += streaming.finish()
        meeting = diarize(model, (mix_N, talk.rate))
        names = [speaker.name for speaker in meeting.speakers]
        ways = {
            "listen": active_speakers(updates, frames, model.segment_seconds),
            "diarize": turns_to_frames(meeting.turns, names, frames, FRAME),
        }
        for way, active_KT in ways.items():
            error = diarization_error(reference_KT, active_KT, FRAME)
            figures = {part: getattr(error, part) for part in ("total", *PARTS)}
            figures["right"] = int(len(active_KT) == reference_KT.any(1).sum())
            found[way].append(figures | {"swaps": count_swaps(reference_KT, active_KT, FRAME)})
    return found


def active_speakers(updates: list[StreamingUpdate], frames: int, segment_seconds: float) -> np.ndarray:
    """Which speakers are active in each frame according to the updates, boolean [K,T]."""
    count = len(updates[-1].activity)
    active_KS = np.concatenate(
        [np.pad(u.activity, ((0, count - len(u.activity)), (0, 0))) for u in updates], axis=1
    )
    segment_T = ((np.arange(frames) + 0.5) * FRAME / segment_seconds).astype(int)
    return active_KS[:, segment_T.clip(max=active_KS.shape[1] - 1)] > 0.5


def row(kind: str, way: str, some: list[Record]) -> list[str]:
    """A row of the table: errors in % of all speech, then counts."""
    total = sum(one["total"] for one in some)
    each = [100 * sum(one[part] for one in some) / total for part in PARTS]
    worst = max(100 * sum(one[part] for part in PARTS) / one["total"] for one in some)
    cells = [kind, way, *(f"{x:.1f}" for x in (sum(each), worst, *each))]
    return [
        *cells,
        f"{sum(one['right'] for one in some)} of {len(some)}",
        str(sum(one["swaps"] for one in some)),
    ]


def main() -> None:
    parser = arguments(__doc__, "listen.md", runs=1, rounds=1)
    parser.add_argument("--corpus", help="speech with the split dev")
    parser.add_argument("--model", default="base", help="model name or folder")
    parser.add_argument("--count", type=int, default=4, help="number of conversations of each kind")
    args = parsed(parser, measure, needed=["corpus"])
    loads, rows, pieces, latency = [os.getloadavg()[0]], [], [], 0.0
    for speakers, overlap in KINDS:
        case = {"speakers": speakers, "overlap": overlap}
        case |= {key: getattr(args, key) for key in ("corpus", "model", "count", "threads")}
        found = run_child(__file__, case)
        kind = f"{speakers} speakers, {overlap:.0%} overlap"
        rows += [row(kind, way, found[way]) for way in ("listen", "diarize")]
        pieces += found["piece_s"]
        latency = max(latency, found["latency"])
    usual, slow = np.quantile(pieces, [0.5, 0.99]).tolist()
    write_page(
        args.page,
        [
            "# Streaming diarization",
            "",
            f"{args.count} simulated conversations of {SECONDS:.0f} s of each kind (seed {SEED}), of speakers"
            f" that the model was not trained on.",
            f"`listen` reports the speakers with a latency of {latency:.2f} s and never revises its output."
            f" `diarize` processes the whole recording. {args.threads} threads.",
            *made_on(loads, "torch"),
            "",
            *table(HEADER, rows),
            "",
            f"Processing half a second of audio takes {1000 * usual:.0f} ms (99th percentile",
            f"{1000 * slow:.0f} ms).",
            "",
            f"Made by `python benchmarks/bench_listen.py --corpus speech.csv --count {args.count}`.",
        ],
        [
            Promise("listen: latency", f"{latency:.2f} s", "≤ 2 s", latency <= 2),
            Promise(
                "listen: processing of half a second of audio, 99th percentile",
                f"{1000 * slow:.0f} ms",
                "< 500 ms",
                slow < 0.5,
            ),
        ],
    )


if __name__ == "__main__":
    main()

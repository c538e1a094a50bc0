"""A recording of hours: memory, and whether the last hour takes as long as the first.

    python benchmarks/bench_recording.py --corpus speech.csv [--hours 4]
        # rewrites docs/benchmarks/recording.md

A simulated conversation of four speakers (split dev), diarized by the model that comes with the package, and
its voices written.
"""

from __future__ import annotations

import os
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from common import Promise, Record, arguments, forget_peak, held_mib, made_on, parsed, put, run_child

PARTS = 4


def measure(case: Record) -> Record:
    """Make the recording, or listen to it: seconds for each quarter, and memory above the loaded model."""
    path = Path(case["path"])
    if case["what"] == "make":
        from separative.corpora import load_corpus
        from separative.mixtures import ConversationConfig, Conversations

        config = ConversationConfig(rate=16000, seconds=3600 * case["hours"], speakers=4, overlap=0.2)
        speech = load_corpus(case["corpus"], split="dev", keep_damaged=True)
        labelled = speech.filter(lambda u: u.speaker is not None)
        Conversations(labelled, config, seed=0).conversation(0).write(path.parent, path.stem)
        return {}
    import torch

    from separative import inference
    from separative.model import load_model

    torch.set_num_threads(case["threads"])
    model = load_model(case["model"])
    # The libraries' own buffers belong to the model as loaded.
    inference.diarize(model, (1e-3 * torch.randn(160_000).numpy(), 16000))
    forget_peak()
    before, marks = held_mib("VmRSS"), [(0, time.perf_counter())]

    def told(done: int, total: int) -> None:
        if done >= total * len(marks) / PARTS:
            marks.append((done, time.perf_counter()))

    started = time.perf_counter()
    meeting = inference.diarize(model, path, progress=told)
    diarized = time.perf_counter() - started
    peak = held_mib("VmHWM") - before
    forget_peak()
    started = time.perf_counter()
    inference.write_voices(model, meeting, path.parent)
    return {
        "diarized": diarized,
        "voices": time.perf_counter() - started,
        "seconds": meeting.seconds,
        "parts": [(b[1] - a[1]) / ((b[0] - a[0]) / model.rate / 60) for a, b in pairwise(marks)],
        "peak": peak,
        "voices_peak": held_mib("VmHWM") - before,
        "speakers": len(meeting.speakers),
        "turns": len(meeting.turns),
    }


def main() -> None:
    parser = arguments(__doc__, "recording.md", runs=1, rounds=1)
    parser.add_argument("--corpus", help="speech with the split dev")
    parser.add_argument("--model", default="base")
    parser.add_argument("--hours", type=float, default=4.0)
    args = parsed(parser, measure, needed=["corpus"])
    loads = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as name:
        case = {"path": str(Path(name) / "long.wav"), "keep_freed": False}
        case |= {key: getattr(args, key) for key in ("corpus", "model", "hours", "threads")}
        run_child(__file__, case | {"what": "make"})
        found = run_child(__file__, case | {"what": "listen"})
    parts = found["parts"][:PARTS]
    drift = parts[-1] / parts[0] - 1
    factor, with_voices = (
        seconds / found["seconds"] for seconds in (found["diarized"], found["diarized"] + found["voices"])
    )
    put(
        args.page,
        [
            "# A recording of hours",
            "",
            f"{found['seconds'] / 3600:.2f} hours of simulated conversation of four speakers, 20 % overlap,"
            f" {args.threads} threads.",
            *made_on(loads, "torch"),
            "",
            "| | diarize | and voices |",
            "|---|---|---|",
            f"| real-time factor | {factor:.4f} | {with_voices:.4f} |",
            f"| memory above the loaded model, MiB | {found['peak']:.0f} | {found['voices_peak']:.0f} |",
            "",
            "Seconds for a minute of sound, by quarter of the recording: "
            + ", ".join(f"{part:.3f}" for part in parts)
            + ".",
            "",
            f"Made by `python benchmarks/bench_recording.py --corpus speech.csv --hours {args.hours:g}`.",
        ],
        [
            Promise(
                f"{args.hours:g} hours: memory above the loaded model",
                f"{max(found['peak'], found['voices_peak']):.0f} MiB",
                "≤ 600 MB",
                max(found["peak"], found["voices_peak"]) * 1.048576 <= 600,
            ),
            Promise(
                f"{args.hours:g} hours: last quarter over first, time",
                f"{drift:+.1%}",
                "≤ 10 %",
                drift <= 0.1,
            ),
            Promise(f"{args.hours:g} hours: real-time factor", f"{factor:.3f}", "≤ 0.15", factor <= 0.15),
        ],
    )


if __name__ == "__main__":
    main()

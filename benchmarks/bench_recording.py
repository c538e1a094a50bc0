"""A recording of several hours: memory, and computing time of its last quarter compared with the first.

    python benchmarks/bench_recording.py --corpus speech.csv [--hours 4]
        # rewrites docs/benchmarks/recording.md

Runs the shipped model on a simulated conversation of four speakers (split dev), and writes the separated
speakers.
"""

from __future__ import annotations

import os
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from common import (
    Promise,
    Record,
    arguments,
    made_on,
    memory_mib,
    parsed,
    reset_peak,
    run_child,
    table,
    write_page,
)

PARTS = 4


def measure(case: Record) -> Record:
    """Make the recording, or diarize it: seconds for each quarter, and memory above the loaded model."""
    path = Path(case["path"])
    if case["what"] == "make":
        from separative.corpora import load_corpus
        from separative.mixtures import ConversationConfig, ConversationSimulator

        config = ConversationConfig(rate=16000, seconds=3600 * case["hours"], speakers=4, overlap=0.2)
        speech = load_corpus(case["corpus"], split="dev", keep_damaged=True)
        labelled = speech.filter(lambda u: u.speaker is not None)
        ConversationSimulator(labelled, config, seed=0).conversation(0).write(path.parent, path.stem)
        return {}
    import torch

    from separative import inference
    from separative.model import load_model

    torch.set_num_threads(case["threads"])
    model = load_model(case["model"])
    # Buffers of the libraries count as part of the loaded model.
    inference.diarize(model, (1e-3 * torch.randn(160_000).numpy(), 16000))
    reset_peak()
    before, marks = memory_mib("VmRSS"), [(0, time.perf_counter())]

    def report(done: int, total: int) -> None:
        if done >= total * len(marks) / PARTS:
            marks.append((done, time.perf_counter()))

    started = time.perf_counter()
    meeting = inference.diarize(model, path, progress=report)
    diarized = time.perf_counter() - started
    peak = memory_mib("VmHWM") - before
    reset_peak()
    started = time.perf_counter()
    inference.write_speakers(model, meeting, path.parent)
    return {
        "diarized": diarized,
        "writing": time.perf_counter() - started,
        "seconds": meeting.seconds,
        "parts": [(b[1] - a[1]) / ((b[0] - a[0]) / model.rate / 60) for a, b in pairwise(marks)],
        "peak": peak,
        "writing_peak": memory_mib("VmHWM") - before,
        "speakers": len(meeting.speakers),
        "turns": len(meeting.turns),
    }


def main() -> None:
    parser = arguments(__doc__, "recording.md", runs=1, rounds=1)
    parser.add_argument("--corpus", help="speech with the split dev")
    parser.add_argument("--model", default="base", help="model name or folder")
    parser.add_argument("--hours", type=float, default=4.0, help="length of the recording")
    args = parsed(parser, measure, needed=["corpus"])
    loads = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as name:
        case = {"path": str(Path(name) / "long.wav"), "keep_freed": False}
        case |= {key: getattr(args, key) for key in ("corpus", "model", "hours", "threads")}
        run_child(__file__, case | {"what": "make"})
        found = run_child(__file__, case | {"what": "diarize"})
    parts = found["parts"][:PARTS]
    drift = parts[-1] / parts[0] - 1
    factor, with_writing = (
        seconds / found["seconds"] for seconds in (found["diarized"], found["diarized"] + found["writing"])
    )
    write_page(
        args.page,
        [
            "# A recording of several hours",
            "",
            f"A simulated conversation of four speakers, {found['seconds'] / 3600:.2f} hours, 20 % overlap,"
            f" {args.threads} threads.",
            *made_on(loads, "torch"),
            "",
            *table(
                ["", "diarize", "diarize and write the speakers"],
                [
                    ["real-time factor", f"{factor:.4f}", f"{with_writing:.4f}"],
                    [
                        "memory above the loaded model, MiB",
                        f"{found['peak']:.0f}",
                        f"{found['writing_peak']:.0f}",
                    ],
                ],
            ),
            "",
            "Seconds of computing per minute of audio, by quarter of the recording: "
            + ", ".join(f"{part:.3f}" for part in parts)
            + ".",
            "",
            f"Made by `python benchmarks/bench_recording.py --corpus speech.csv --hours {args.hours:g}`.",
        ],
        [
            Promise(
                f"{args.hours:g} hours: memory above the loaded model",
                f"{max(found['peak'], found['writing_peak']):.0f} MiB",
                "≤ 600 MB",
                max(found["peak"], found["writing_peak"]) * 1.048576 <= 600,
            ),
            Promise(
                f"{args.hours:g} hours: time of the last quarter compared with the first",
                f"{drift:+.1%}",
                "≤ 10 %",
                drift <= 0.1,
            ),
            Promise(f"{args.hours:g} hours: real-time factor", f"{factor:.3f}", "≤ 0.15", factor <= 0.15),
        ],
    )


if __name__ == "__main__":
    main()

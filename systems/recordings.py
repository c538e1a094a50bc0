"""Run a diarization system of others on a list of recordings, in the files that the evaluation reads.

Every script that calls :func:`run` has these arguments:

    python systems/senko_diarize.py RECORDINGS OUT [--speakers-known] [--windows WINDOWS]

RECORDINGS is a CSV file with the columns recording, path and rttm. The script writes into the folder OUT:

- ``<recording>.rttm``;
- ``cost.json``: seconds of wall-clock time and peak memory of each recording;
- with ``--windows``, ``windows.npz``: an embedding of every window of the list WINDOWS, which
  ``separative evaluate-recordings --windows`` writes.

References are only read with ``--speakers-known``, to count their speakers.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
import torch
from waves import Wave

RATE = 16000


class Turn(NamedTuple):
    """A span of seconds in which one speaker talks."""

    start: float
    end: float
    speaker: str


# (waveform, number of speakers or None) -> turns
Diarize = Callable[[Wave, int | None], Sequence[Turn]]
# waveforms -> embeddings [waveforms, E]; a row of NaN where there is none
Embed = Callable[[Sequence[Wave]], Wave]


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that all scripts share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("recordings", type=Path, help="CSV file with the columns recording, path and rttm")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--speakers-known", action="store_true", help="give the true number of speakers")
    parser.add_argument("--windows", type=Path, help="CSV file of windows to embed")
    return parser


def read(path: Path) -> Wave:
    """A recording as mono waveform at 16 kHz, ``[N]``: the mean of its channels."""
    wave_NK, rate = soundfile.read(path, dtype="float32", always_2d=True)
    wave_N = wave_NK.mean(1)
    return wave_N if rate == RATE else soxr.resample(wave_N, rate, RATE)


def rttm(recording: str, turns: Sequence[Turn]) -> str:
    """Turns as RTTM lines."""
    return "".join(
        f"SPEAKER {recording} 1 {start:.3f} {end - start:.3f} <NA> <NA> {speaker} <NA> <NA>\n"
        for start, end, speaker in turns
        if end > start
    )


def speakers_of(path: Path) -> int:
    """Number of speakers in an RTTM file."""
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return len({words[7] for words in lines if words and words[0] == "SPEAKER"})


def table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def run(args: argparse.Namespace, diarize: Diarize, embed: Embed) -> None:
    """Diarize the recordings on one thread and embed the windows."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    args.out.mkdir(parents=True, exist_ok=True)
    folder = args.recordings.parent
    rows = table(args.recordings)
    # The first run loads code and plans memory; it is not measured.
    diarize(read(folder / rows[0]["path"]), None)
    cost = {}
    for row in rows:
        known = speakers_of(folder / row["rttm"]) if args.speakers_known else None
        forget_peak_memory()
        started = time.perf_counter()
        turns = diarize(read(folder / row["path"]), known)
        seconds = time.perf_counter() - started
        cost[row["recording"]] = {"seconds": round(seconds, 3), "peak_memory_mb": round(peak_memory_mb(), 1)}
        text = rttm(row["recording"], turns)
        (args.out / f"{row['recording']}.rttm").write_text(text, encoding="utf-8")
    (args.out / "cost.json").write_text(json.dumps(cost, indent=1) + "\n", encoding="utf-8")
    if args.windows:
        save_windows(args.windows, args.out / "windows.npz", embed)


def save_windows(listed: Path, out: Path, embed: Embed) -> None:
    """Embed the windows of a list, each without its context."""
    rows = table(listed)
    recordings = {path: read(Path(path)) for path in {row["path"] for row in rows}}
    crops = []
    for row in rows:
        first = round(float(row["start"]) * RATE)
        crops.append(recordings[row["path"]][first : first + round(float(row["seconds"]) * RATE)])
    np.savez(out, window=np.array([row["window"] for row in rows]), embedding=embed(crops))


def forget_peak_memory() -> None:
    """Let the kernel measure the peak memory of this process from now on."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_mb() -> float:
    """Peak resident memory of this process, in units of 10^6 bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6

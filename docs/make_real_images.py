"""Draw what the shipped model finds in three real recordings.

    python docs/make_real_images.py --data DATA   # writes docs/images/real-<recording>.svg

DATA holds ``meetings.csv``. A picture has the reference, the speakers found and the level of the recording.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import separative
from separative import audio
from separative.drawing import COLOURS
from separative.evaluation.references import FRAME, ReferenceRecording, read_references
from separative.files import atomic_path
from separative.metrics import diarization_error, match_speakers
from separative.rttm import turns_to_frames

IMAGES = Path(__file__).parent / "images"
RECORDINGS = ("trn06", "trn08", "diarizationExample")
PALETTE = [colour for colour in COLOURS if colour != "#000000"]
# Level is the RMS of pieces of this length in seconds.
LEVEL_SECONDS = 0.05


def spans(active_T: np.ndarray) -> list[tuple[float, float]]:
    """Start and length in seconds of the pieces in which a speaker is active."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active_T.astype(np.int8), [0]])))
    return [(start * FRAME, (stop - start) * FRAME) for start, stop in edges.reshape(-1, 2)]


def draw(model: separative.SeparativeEncoder, recording: ReferenceRecording, path: Path) -> None:
    """Draw one recording. A found speaker has the colour of the true speaker that it matches."""
    diarization = separative.diarize(model, recording.path)
    names = [speaker.name for speaker in diarization.speakers]
    found_CT = turns_to_frames(diarization.turns, names, recording.frames, FRAME)
    error = diarization_error(recording.reference, found_CT, FRAME)
    colour_of = {int(c): int(k) for k, c in zip(*match_speakers(recording.reference, found_CT), strict=True)}
    lanes = [
        (f"true {k + 1}", active_T, PALETTE[k % len(PALETTE)])
        for k, active_T in enumerate(recording.reference)
    ] + [
        (f"found {c + 1}", active_T, PALETTE[colour_of[c] % len(PALETTE)] if c in colour_of else "#999999")
        for c, active_T in enumerate(found_CT)
    ]
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(9, 1.4 + 0.32 * len(lanes)), sharex=True, height_ratios=(len(lanes), 2.2)
    )
    for y, (_, active_T, colour) in enumerate(lanes):
        top.broken_barh(spans(active_T), (y - 0.38, 0.76), color=colour)
    top.axhline(len(recording.reference) - 0.5, color="0.6", linewidth=0.8)
    top.set_yticks(range(len(lanes)), [name for name, *_ in lanes])
    top.set_ylim(len(lanes) - 0.5, -0.5)
    parts = [100 * x / error.total for x in (error.missed, error.false_alarm, error.confusion)]
    top.set_title(
        f"{recording.name}: DER {100 * error.rate:.0f} % (missed {parts[0]:.0f}, false alarm {parts[1]:.0f},"
        f" confusion {parts[2]:.0f})",
        loc="left",
        fontsize=10,
    )
    wave_N, rate = audio.read(recording.path, model.rate)
    size = round(LEVEL_SECONDS * rate)
    piece_PN = wave_N[: len(wave_N) // size * size].reshape(-1, size)
    level_P = 10 * np.log10(np.maximum(np.square(piece_PN).mean(1), 1e-10))
    bottom.plot(np.arange(len(level_P)) * LEVEL_SECONDS, level_P, color="0.35", linewidth=0.7)
    bottom.set_ylabel("dB")
    bottom.set_xlabel("seconds")
    bottom.set_xlim(0, recording.seconds)
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="Folder with meetings.csv.")
    data = parser.parse_args().data
    matplotlib.rcParams["svg.hashsalt"] = "real"
    model = separative.load_model()
    recordings, _ = read_references(data / "meetings.csv")
    for recording in recordings:
        if recording.name in RECORDINGS:
            draw(model, recording, IMAGES / f"real-{recording.name}.svg")


if __name__ == "__main__":
    main()

"""Diarize recordings with Silero's speech activity, embeddings of short windows, and spectral clustering.

    python systems/silero_diarize.py RECORDINGS OUT --embedding NAME [--speakers-known] [--windows WINDOWS]

``recordings.py`` describes the arguments and the output. CAM++ (``campplus``) or Resemblyzer
(``resemblyzer``) embeds windows of 1.5 s every 0.5 s of each span of speech. The graph of nearest neighbours
and the number of speakers, at most ten, are chosen by the normalised maximum eigengap (Park et al., 2020).
Spectral clustering of scikit-learn divides the graph. This system does not find overlap.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from recordings import RATE, Embed, Turn, arguments, run
from sklearn.cluster import SpectralClustering
from waves import Wave

WINDOW, HOP = 1.5, 0.5
# Neighbours per window, as shares of the number of windows. With fewer than six, the graph of one speaker can
# fall apart.
NEIGHBOURS, FEWEST_NEIGHBOURS = np.linspace(0.02, 0.3, 15), 6
MOST_SPEAKERS = 10


def windows(start: float, end: float) -> list[tuple[float, float]]:
    """Windows of a span of speech, in seconds; the last one is moved back to end with the span."""
    if end - start <= WINDOW:
        return [(start, end)]
    starts = np.arange(start, end - WINDOW, HOP).tolist()
    return [(s, s + WINDOW) for s in (*starts, end - WINDOW)]


def cluster(embedding_WE: Wave, speakers: int | None) -> np.ndarray:
    """A label for each window, ``[W]``."""
    count = len(embedding_WE)
    if count < 3 or speakers == 1:
        return np.zeros(count, int)
    unit_WE = embedding_WE / np.linalg.norm(embedding_WE, axis=1, keepdims=True)
    order_WW = np.argsort(-(unit_WE @ unit_WE.T), axis=1)
    best: tuple[float, int, np.ndarray] | None = None
    for neighbours in sorted({max(FEWEST_NEIGHBOURS, round(share * count)) for share in NEIGHBOURS}):
        graph_WW = np.zeros((count, count))
        np.put_along_axis(graph_WW, order_WW[:, : neighbours + 1], 1.0, axis=1)
        graph_WW = (graph_WW + graph_WW.T) / 2
        np.fill_diagonal(graph_WW, 0.0)
        eigenvalue_W = np.linalg.eigvalsh(np.diag(graph_WW.sum(1)) - graph_WW)
        gap_K = np.diff(eigenvalue_W[: MOST_SPEAKERS + 1])
        # Few neighbours and a wide gap.
        ratio = neighbours / (gap_K.max() / eigenvalue_W[-1] + 1e-10)
        if best is None or ratio < best[0]:
            best = ratio, int(gap_K.argmax()) + 1, graph_WW
    _, found, graph_WW = best
    wanted = speakers or found
    if wanted == 1:
        return np.zeros(count, int)
    if wanted >= count:
        return np.arange(count)
    with warnings.catch_warnings():
        # A graph of separate parts is what we hope for.
        warnings.filterwarnings("ignore", message="Graph is not fully connected")
        chosen = SpectralClustering(wanted, affinity="precomputed", assign_labels="kmeans", random_state=0)
        return chosen.fit_predict(graph_WW)


def turns_of(spans: Sequence[Sequence[tuple[float, float]]], label_W: np.ndarray) -> list[Turn]:
    """Turns from the windows of every span: two windows with different labels meet between their centres."""
    turns, labels = [], iter(label_W.tolist())
    for span in spans:
        centres = [(start + end) / 2 for start, end in span]
        borders = [span[0][0], *((a + b) / 2 for a, b in pairwise(centres)), span[-1][1]]
        for start, end in pairwise(borders):
            speaker = f"speaker{next(labels)}"
            if turns and turns[-1].speaker == speaker and turns[-1].end == start:
                turns[-1] = turns[-1]._replace(end=end)
            else:
                turns.append(Turn(start, end, speaker))
    return turns


def embedder(name: str) -> Embed:
    """CAM++, or Resemblyzer with its normalisation of level and without its removal of silence."""
    if name == "campplus":
        import campplus

        network = campplus.load()
        return lambda waves: campplus.embed(network, waves)
    from resemblyzer import VoiceEncoder
    from resemblyzer.audio import normalize_volume

    encoder = VoiceEncoder("cpu", verbose=False)

    def embed(waves: Sequence[Wave]) -> Wave:
        levelled = (normalize_volume(wave_N, -30, increase_only=True) for wave_N in waves)
        return np.stack([encoder.embed_utterance(wave_N) for wave_N in levelled])

    return embed


def main() -> None:
    from silero_vad import get_speech_timestamps, load_silero_vad

    parser = arguments("Diarize recordings with Silero, an encoder and spectral clustering.")
    parser.add_argument("--embedding", choices=("campplus", "resemblyzer"), required=True, help="encoder")
    args = parser.parse_args()
    activity, embed = load_silero_vad(), embedder(args.embedding)

    def diarize(wave_N: Wave, speakers: int | None) -> list[Turn]:
        speech = get_speech_timestamps(torch.from_numpy(wave_N), activity, return_seconds=False)
        spans = [windows(part["start"] / RATE, part["end"] / RATE) for part in speech]
        if not spans:
            return []
        crops = [wave_N[round(start * RATE) : round(end * RATE)] for span in spans for start, end in span]
        return turns_of(spans, cluster(embed(crops), speakers))

    run(args, diarize, embed)


if __name__ == "__main__":
    main()

"""Embeddings of wave files by Resemblyzer's pretrained d-vector encoder (its weights are in its package).

    python systems/resemblyzer_embed.py LIST OUT [--preprocess]

LIST names mono wave files of 16 kHz, one a line; OUT becomes ``.npy`` float32 ``[files, 256]``.
``--preprocess`` first raises the level and trims silence as Resemblyzer does for files of its own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from resemblyzer import VoiceEncoder, preprocess_wav
from waves import listed

RATE = 16000


def main() -> None:
    parser = argparse.ArgumentParser(description="Embeddings by Resemblyzer.")
    parser.add_argument("list", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--preprocess", action="store_true", help="Resemblyzer's level and silence trimming")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    encoder = VoiceEncoder("cpu", verbose=False)
    embeddings = []
    for wave_N in listed(args.list, RATE):
        if args.preprocess:
            wave_N = preprocess_wav(wave_N, RATE)
        embeddings.append(encoder.embed_utterance(wave_N))
    np.save(args.out, np.stack(embeddings).astype(np.float32))


if __name__ == "__main__":
    main()

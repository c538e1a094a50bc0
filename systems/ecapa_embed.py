"""Embeddings of wave files by a trained ECAPA-TDNN.

    python systems/ecapa_embed.py RUN LIST OUT

LIST names mono wave files of 16 kHz, one a line; OUT becomes ``.npy`` float32 ``[files, 192]``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from ecapa import RATE, embed, load
from waves import listed


def main() -> None:
    run, names, out = (Path(word) for word in sys.argv[1:])
    torch.set_flush_denormal(True)
    np.save(out, embed(load(run), listed(names, RATE)))


if __name__ == "__main__":
    main()

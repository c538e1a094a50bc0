"""Embed WAV files with a trained ECAPA-TDNN.

    python systems/ecapa_embed.py RUN LIST OUT

LIST has the paths of mono WAV files at 16 kHz, one per line. OUT is a ``.npy`` file, float32
``[files, 192]``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from ecapa import RATE, embed, load
from waves import read_list


def main() -> None:
    run, names, out = (Path(word) for word in sys.argv[1:])
    torch.set_flush_denormal(True)
    np.save(out, embed(load(run), read_list(names, RATE)))


if __name__ == "__main__":
    main()

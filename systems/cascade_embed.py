"""Separate, then embed: Conv-TasNet's two estimates of each wave file, each through an ECAPA-TDNN.

    python systems/cascade_embed.py SEPARATOR ECAPA LIST OUT

SEPARATOR and ECAPA are folders of trained runs. LIST names mono wave files of 16 kHz, one a line; they are
separated at 8 kHz and embedded at 16 kHz. OUT becomes ``.npy`` float32 ``[files, 2, 192]``, the louder
estimate first. An estimate over 15 dB below it is the ghost of a single speaker and has a row of NaN. Negative
SI-SDR teaches no level, so each estimate is first scaled to its share of the mixture.
"""

from __future__ import annotations

import sys
from pathlib import Path

import convtasnet
import ecapa
import numpy as np
import soxr
import torch
from waves import Wave, batches_of_one_length, listed

GHOST_DB = 15.0


def main() -> None:
    separator_run, ecapa_run, names, out = (Path(word) for word in sys.argv[1:])
    torch.set_flush_denormal(True)
    waves = listed(names, ecapa.RATE)
    estimates, ghost_FC = separated(convtasnet.load(separator_run), waves)
    embedding_FCE = ecapa.embed(ecapa.load(ecapa_run), estimates).reshape(len(waves), 2, -1)
    embedding_FCE[ghost_FC] = np.nan
    np.save(out, embedding_FCE)


@torch.inference_mode()
def separated(network: convtasnet.ConvTasNet, waves: list[Wave]) -> tuple[list[Wave], np.ndarray]:
    """Two estimates a wave at 16 kHz, the louder first, wave after wave; and which are ghosts, ``[F, 2]``."""
    slow = [soxr.resample(wave_N, ecapa.RATE, convtasnet.RATE) for wave_N in waves]
    estimates: list[Wave] = [np.empty(0, np.float32)] * (2 * len(waves))
    ghost_FC = np.zeros((len(waves), 2), bool)
    for rows, mix_BN in batches_of_one_length(slow, convtasnet.RATE):
        estimate_BCN = network(torch.from_numpy(mix_BN).unsqueeze(1)).numpy()
        for row, mix_N, estimate_CN in zip(rows, mix_BN, estimate_BCN, strict=True):
            # Sources are nearly orthogonal: projecting the mixture on an estimate finds that source's level.
            scale_C = (estimate_CN @ mix_N) / np.maximum((estimate_CN**2).sum(1), 1e-12)
            heard_CN = scale_C[:, None] * estimate_CN
            power_C = (heard_CN**2).mean(1)
            order = np.argsort(-power_C)
            ghost_FC[row] = power_C[order] < power_C.max() * 10 ** (-GHOST_DB / 10)
            for c, stream in enumerate(order):
                fast_N = soxr.resample(heard_CN[stream], convtasnet.RATE, ecapa.RATE)
                estimates[2 * row + c] = fast_N.astype(np.float32)
    return estimates, ghost_FC


if __name__ == "__main__":
    main()

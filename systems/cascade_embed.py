"""Separate WAV files with a Conv-TasNet, then embed both estimates with an ECAPA-TDNN.

    python systems/cascade_embed.py SEPARATOR ECAPA LIST OUT

SEPARATOR and ECAPA are folders of trained runs. LIST has the paths of mono WAV files at 16 kHz, one per line.
They are separated at 8 kHz and embedded at 16 kHz. OUT is a ``.npy`` file, float32 ``[files, 2, 192]``, the
louder estimate first. An estimate more than 15 dB below the louder one is taken for the residual of a single
speaker, and its row is NaN. A network trained on SI-SDR does not learn levels, so each estimate is first
scaled to its level in the mixture.
"""

from __future__ import annotations

import sys
from pathlib import Path

import convtasnet
import ecapa
import numpy as np
import soxr
import torch
from waves import Wave, batches_of_one_length, read_list

RESIDUAL_DB = 15.0


def main() -> None:
    separator_run, ecapa_run, names, out = (Path(word) for word in sys.argv[1:])
    torch.set_flush_denormal(True)
    waves = read_list(names, ecapa.RATE)
    estimates, residual_FC = separated(convtasnet.load(separator_run), waves)
    embedding_FCE = ecapa.embed(ecapa.load(ecapa_run), estimates).reshape(len(waves), 2, -1)
    embedding_FCE[residual_FC] = np.nan
    np.save(out, embedding_FCE)


@torch.inference_mode()
def separated(network: convtasnet.ConvTasNet, waves: list[Wave]) -> tuple[list[Wave], np.ndarray]:
    """Two estimates per wave at 16 kHz, the louder first; and which are residuals, ``[F, 2]``."""
    slow = [soxr.resample(wave_N, ecapa.RATE, convtasnet.RATE) for wave_N in waves]
    estimates: list[Wave] = [np.empty(0, np.float32)] * (2 * len(waves))
    residual_FC = np.zeros((len(waves), 2), bool)
    for rows, mix_BN in batches_of_one_length(slow, convtasnet.RATE):
        estimate_BCN = network(torch.from_numpy(mix_BN).unsqueeze(1)).numpy()
        for row, mix_N, estimate_CN in zip(rows, mix_BN, estimate_BCN, strict=True):
            # Sources are nearly orthogonal: the projection of the mixture on an estimate has its level.
            scale_C = (estimate_CN @ mix_N) / np.maximum((estimate_CN**2).sum(1), 1e-12)
            scaled_CN = scale_C[:, None] * estimate_CN
            power_C = (scaled_CN**2).mean(1)
            order = np.argsort(-power_C)
            residual_FC[row] = power_C[order] < power_C.max() * 10 ** (-RESIDUAL_DB / 10)
            for c, stream in enumerate(order):
                fast_N = soxr.resample(scaled_CN[stream], convtasnet.RATE, ecapa.RATE)
                estimates[2 * row + c] = fast_N.astype(np.float32)
    return estimates, residual_FC


if __name__ == "__main__":
    main()

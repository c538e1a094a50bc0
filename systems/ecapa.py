"""SpeechBrain's ECAPA-TDNN (Desplanques et al., 2020): waves at 16 kHz to embeddings of 192 numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from loop import weights
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.processing.features import InputNormalization
from torch import Tensor, nn
from waves import Wave, batches_of_one_length

SYSTEM = "ECAPA-TDNN"
RATE = 16000
# Half the channels of the small published network: of the size, and with the cost of a step, of our own.
MELS, CHANNELS, EMBEDDING = 80, 256, 192


class Ecapa(nn.Module):
    """80 log mel bands, the mean of each recording taken off; three SE-Res2 blocks of 256 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.bands = Fbank(n_mels=MELS)
        self.norm = InputNormalization(norm_type="sentence", std_norm=False)
        self.net = ECAPA_TDNN(MELS, channels=[CHANNELS] * 4 + [3 * CHANNELS], lin_neurons=EMBEDDING)

    def forward(self, wave_BN: Tensor) -> Tensor:
        """Embeddings ``[B, 192]``, of any length, from waves of one length."""
        with torch.no_grad():
            bands_BTM = self.norm(self.bands(wave_BN), torch.ones(len(wave_BN)))
        return self.net(bands_BTM).squeeze(1)


def load(folder: Path) -> Ecapa:
    """The network of a run's folder, in evaluation mode."""
    network = Ecapa()
    network.load_state_dict(weights(folder, SYSTEM))
    return network.eval()


@torch.inference_mode()
def embed(network: Ecapa, waves: Sequence[Wave]) -> Wave:
    """Embeddings ``[files, 192]`` of waves of any lengths."""
    embedding_FE = np.empty((len(waves), EMBEDDING), np.float32)
    for rows, wave_BN in batches_of_one_length(waves, RATE):
        embedding_FE[rows] = network(torch.from_numpy(wave_BN)).numpy()
    return embedding_FE

"""SpeechBrain's ECAPA-TDNN (Desplanques et al., 2020): embeddings of size 192 from waves at 16 kHz."""

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
# Half the channels of the small published network: size and cost of a step are similar to our model.
MELS, CHANNELS, EMBEDDING = 80, 256, 192


class Ecapa(nn.Module):
    """80 log mel bands without the mean of the recording, then three SE-Res2 blocks of 256 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.bands = Fbank(n_mels=MELS)
        self.norm = InputNormalization(norm_type="sentence", std_norm=False)
        self.net = ECAPA_TDNN(MELS, channels=[CHANNELS] * 4 + [3 * CHANNELS], lin_neurons=EMBEDDING)

    def forward(self, wave_BN: Tensor) -> Tensor:
        """Embeddings ``[B, 192]``, not normalised, of waves ``[B, N]``."""
        with torch.no_grad():
            bands_BTM = self.norm(self.bands(wave_BN), torch.ones(len(wave_BN)))
        return self.net(bands_BTM).squeeze(1)


def load(folder: Path) -> Ecapa:
    """The network of a run folder, in evaluation mode."""
    network = Ecapa()
    network.load_state_dict(weights(folder, SYSTEM))
    return network.eval()


@torch.inference_mode()
def embed(network: Ecapa, waves: Sequence[Wave]) -> Wave:
    """Embeddings ``[files, 192]`` of waves of any length."""
    embedding_FE = np.empty((len(waves), EMBEDDING), np.float32)
    for rows, wave_BN in batches_of_one_length(waves, RATE):
        embedding_FE[rows] = network(torch.from_numpy(wave_BN)).numpy()
    return embedding_FE

"""Judge pieces of a pile of speech with a model: what holds no speech, and what holds two speakers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from separative import audio
from separative.types import Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

# Share of the segments in which at least one stream must be active.
LEAST_SPEECH = 0.3
# Without a speaker, the embeddings of the streams have a higher cosine than in speech.
LARGEST_COSINE = 0.75
# Share of the active segments of all streams that the second stream may have in speech of one speaker.
MOST_SECOND = 0.15
WINDOW_SECONDS = 4.0
# A level that recordings of speech usually have, in dB of full scale.
LEVEL_DB = -26.0


class PieceJudge:
    """Finds pieces without speech and pieces with two speakers, from the streams of a model.

    Activity of the streams and the cosine of their embeddings decide, not who speaks. A piece is judged in
    windows of 4 s.

    >>> import separative
    >>> judge = PieceJudge(separative.load_model())
    >>> one = separative.load_corpus("speech").utterances[0].path
    >>> [judge(*audio.read(path)) for path in (one, "mixture.wav", "noise.wav")]
    ['', 'two speakers', 'no speech']
    """

    def __init__(self, model: SeparativeEncoder) -> None:
        self.model = model

    @torch.inference_mode()
    def __call__(self, wave: Wave, rate: int) -> str:
        """Return why a waveform [N] is of no use; an empty string if it is of use."""
        model = self.model
        wave_N = audio.with_level(audio.resample(wave, rate, model.rate), LEVEL_DB)
        size = round(WINDOW_SECONDS * model.rate)
        # All windows have the same length, so the last ones may overlap a little.
        starts = np.linspace(0, max(0, len(wave_N) - size), -(-len(wave_N) // size)).round().astype(int)
        mix_BN = torch.from_numpy(np.stack([wave_N[start : start + size] for start in starts.tolist()]))
        output = model(mix_BN.to(next(model.parameters()).device), separate=False)
        active_BCS = output.activity_BCS.float() > 0
        speech = float(active_BCS.any(1).float().mean())
        query_BCE = output.query_BCE.float()
        cosine = float((query_BCE[:, 0] * query_BCE[:, -1]).sum(-1).mean()) if model.streams > 1 else 0.0
        if speech < LEAST_SPEECH or cosine > LARGEST_COSINE:
            return "no speech"
        # Streams have another order in each window: count what is not of the most active one.
        seconds_BC = active_BCS.sum(-1)
        second = 1 - float(seconds_BC.amax(1).sum() / seconds_BC.sum())
        return "two speakers" if second > MOST_SECOND else ""

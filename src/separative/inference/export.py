"""Export a model to ONNX: one graph from a batch of waveforms of any length to streams.

ONNX has little support for complex numbers and overlapping frames. The exported front end therefore computes
the Fourier transform with real numbers: a strided convolution with sines and cosines, and the transposed
convolution for the inverse.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from separative.errors import MissingExtraError, ModelError
from separative.files import atomic_path

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

# Oldest version of torch known to work. Graphs exported by 2.8 do not accept other lengths.
MIN_TORCH = "2.13"

OUTPUTS = {
    "embedding": {0: "batch"},
    "activity": {0: "batch", 2: "segments"},
    "query": {0: "batch"},
    "segment": {0: "batch", 2: "segments"},
    "waveform": {0: "batch", 2: "samples"},
}


def export(model: SeparativeEncoder, path: str | Path, *, separate: bool = True) -> Path:
    """Export a model to ``path`` (.onnx), with its card in the file's metadata; returns the path.

    Input: ``mixture``, float32 [batch, samples], at the model's rate and all of one length. Outputs:
    ``embedding`` and ``query`` [batch, streams, E] of unit norm, ``activity`` [batch, streams, segments]
    (probabilities), ``segment`` [batch, streams, segments, E], and ``waveform`` [batch, streams, samples].

    Args:
        model: a model with the ``stft`` or ``conv`` front end, in evaluation mode.
        separate: False leaves out the waveforms and the layers that only they need.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        ModelError: the path has another suffix, or this version of torch cannot export the model.

    Example:
        >>> import separative
        >>> separative.export(separative.load_model(), "model.pt")
        Traceback (most recent call last):
        separative.errors.ModelError: model.pt: the name of an exported model must end in .onnx
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ModelError(f"{path}: the name of an exported model must end in .onnx")
    try:
        import onnx
        import onnxscript  # noqa: F401 (torch's exporter imports it)
    except ImportError as error:
        raise MissingExtraError("exporting a model", "export") from error
    wrapper = _ExportWrapper(model, separate).eval()
    names = [name for name in OUTPUTS if separate or name != "waveform"]
    example = 0.1 * torch.randn(2, model.rate, generator=torch.Generator().manual_seed(0))
    shapes = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("samples", min=model.config.window)},)
    with warnings.catch_warnings(), torch.no_grad(), _quiet_loggers("torch.onnx", "onnxscript"):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                wrapper,
                (example,),
                input_names=["mixture"],
                output_names=names,
                dynamic_shapes=shapes,
                dynamo=True,
                verbose=False,
                optimize=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise ModelError(
                f"torch {torch.__version__} cannot export this model; use torch {MIN_TORCH} or later"
            ) from error
    assert program is not None
    graph = program.model_proto
    entry = graph.metadata_props.add()
    entry.key, entry.value = "separative", json.dumps(_card(model))
    with atomic_path(path) as temporary:
        onnx.save(graph, str(temporary))
    return path


class _ExportWrapper(nn.Module):
    """The model with a real-valued front end, and its outputs in a fixed order."""

    def __init__(self, model: SeparativeEncoder, separate: bool) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).cpu().float()
        if model.config.front_end == "stft":
            self.model.front_end = _RealStft(self.model.front_end)
        self.separate = separate

    def forward(self, mix_BN: Tensor) -> tuple[Tensor, ...]:
        out = self.model(mix_BN, separate=self.separate)
        found = (out.attended_BCE, out.activity_BCS.sigmoid(), out.query_BCE, out.segment_BCSE)
        return (*found, out.estimate_BCN) if self.separate else found


class _RealStft(nn.Module):
    """:class:`separative.model.frontend.StftFrontEnd` without complex numbers."""

    analysis_K1W: Tensor
    synthesis_K1W: Tensor
    mel_FM: Tensor

    def __init__(self, front: Any) -> None:
        super().__init__()
        self.grid, self.features, self.mask_size = front.grid, front.features, front.mask_size
        window, bins = front.grid.window, front.grid.window // 2 + 1
        turn_FW = torch.arange(bins).double().outer(torch.arange(window).double()) * (2 * torch.pi / window)
        # Real and imaginary parts alternate, as in the network's representation.
        wave_KW = torch.stack([turn_FW.cos(), -turn_FW.sin()], dim=1).flatten(0, 1)
        # All bins except the first and the last count twice, for their negative frequencies.
        twice_F = torch.full((bins,), 2.0, dtype=torch.float64)
        twice_F[0] = twice_F[-1] = 1.0
        back_KW = wave_KW * twice_F.repeat_interleave(2).unsqueeze(1) / window
        self.register_buffer("analysis_K1W", (wave_KW * front.window_W.double()).float().unsqueeze(1))
        self.register_buffer("synthesis_K1W", (back_KW * front.synthesis_W.double()).float().unsqueeze(1))
        self.register_buffer("mel_FM", front.mel_FM)

    def analyse(self, mix_BN: Tensor, valid_BT: Tensor) -> tuple[Tensor, Tensor]:
        from separative.model.frontend import spectral_features

        left = self.grid.window - self.grid.hop
        right = self.grid.frames(mix_BN.shape[-1]) * self.grid.hop - mix_BN.shape[-1]
        padded_B1N = F.pad(mix_BN, (left, right)).unsqueeze(1)
        parts_BTK = F.conv1d(padded_B1N, self.analysis_K1W, stride=self.grid.hop).transpose(1, 2)
        parts_BTF2 = parts_BTK.unflatten(-1, (-1, 2))
        features = spectral_features(parts_BTF2 / self.grid.window**0.5, self.mel_FM, valid_BT)
        return features, parts_BTK * valid_BT.unsqueeze(-1)

    def masked_mels(self, raw_BCTM: Tensor | None, represent_BTK: Tensor, valid_BT: Tensor) -> Tensor:
        from separative.model.frontend import stream_mels

        power_BTF = represent_BTK.unflatten(-1, (-1, 2)).square().sum(-1) / self.grid.window
        return stream_mels(power_BTF.unsqueeze(1), raw_BCTM, self.mel_FM, valid_BT)

    def synthesise(self, raw_BCTM: Tensor, represent_BTK: Tensor, samples: int) -> Tensor:
        from separative.model.frontend import complex_mask

        real, imaginary = complex_mask(raw_BCTM).unbind(-1)
        a, b = represent_BTK.unsqueeze(1).unflatten(-1, (-1, 2)).unbind(-1)
        masked = torch.stack([real * a - imaginary * b, real * b + imaginary * a], dim=-1).flatten(-2)
        waves = F.conv_transpose1d(
            masked.flatten(0, 1).transpose(1, 2), self.synthesis_K1W, stride=self.grid.hop
        )
        left = self.grid.window - self.grid.hop
        wave_BCN: Tensor = waves.squeeze(1).unflatten(0, raw_BCTM.shape[:2])
        return wave_BCN[..., left : left + samples]


def _card(model: SeparativeEncoder) -> dict[str, Any]:
    """The model's card without the names of training speakers, with the architecture and the rate."""
    card = {key: value for key, value in model.card.items() if key != "data"}
    return card | {"architecture": model.config.model_dump(mode="json"), "rate": model.rate}


@contextmanager
def _quiet_loggers(*names: str) -> Iterator[None]:
    """Show only errors of the given loggers inside the block."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

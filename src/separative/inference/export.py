"""A model as ONNX: one graph from waveforms of any number and length to speakers.

Complex numbers and views of overlapping frames do not carry over well. The exported front end does the same
arithmetic in real numbers: the transform is a strided convolution with its own basis, and its inverse the
transposed one.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from separative.errors import MissingExtraError, ModelError
from separative.files import atomic_path

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

# The oldest torch known to export: 2.8 does not follow the lengths.
EXPORTS = "2.13"

OUTPUTS = {
    "embedding": {0: "batch"},
    "activity": {0: "batch", 2: "segments"},
    "query": {0: "batch"},
    "segment": {0: "batch", 2: "segments"},
    "waveform": {0: "batch", 2: "samples"},
}


def export(model: SeparativeEncoder, path: str | Path, *, separate: bool = True) -> Path:
    """Write a model as ``path`` (.onnx), its card among the file's metadata; returns the path.

    Input: ``mixture`` float32 [batch, samples] at the model's rate, all of one length. Outputs: ``embedding``
    and ``query`` [batch, streams, E] of unit norm, ``activity`` [batch, streams, segments] probabilities,
    ``segment`` [batch, streams, segments, E], and ``waveform`` [batch, streams, samples].

    Args:
        model: with the ``stft`` or ``conv`` front end, in evaluation mode.
        separate: False leaves the waveforms out, and what only they need.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        ModelError: another suffix, or a torch that cannot.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ModelError(f"{path}: a model is exported to a file that ends in .onnx")
    try:
        import onnx
        import onnxscript  # noqa: F401 (torch's exporter asks for it)
    except ImportError as error:
        raise MissingExtraError("exporting a model", "export") from error
    whole = _Whole(model, separate).eval()
    names = [name for name in OUTPUTS if separate or name != "waveform"]
    example = 0.1 * torch.randn(2, model.rate, generator=torch.Generator().manual_seed(0))
    shapes = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("samples", min=model.config.window)},)
    with warnings.catch_warnings(), torch.no_grad(), _quiet("torch.onnx", "onnxscript"):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                whole,
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
                f"torch {torch.__version__} cannot export this model; version {EXPORTS} can"
            ) from error
    assert program is not None
    graph = program.model_proto
    entry = graph.metadata_props.add()
    entry.key, entry.value = "separative", json.dumps(_card(model))
    with atomic_path(path) as beside:
        onnx.save(graph, str(beside))
    return path


class _Whole(nn.Module):
    """The model with a front end of real numbers, and outputs in a fixed order."""

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
        # Real and imaginary parts side by side, as the network has them.
        wave_KW = torch.stack([turn_FW.cos(), -turn_FW.sin()], dim=1).flatten(0, 1)
        # All but the first and last bin stand for two of the inverse transform's.
        twice_F = torch.full((bins,), 2.0, dtype=torch.float64)
        twice_F[0] = twice_F[-1] = 1.0
        back_KW = wave_KW * twice_F.repeat_interleave(2).unsqueeze(1) / window
        self.register_buffer("analysis_K1W", (wave_KW * front.window_W.double()).float().unsqueeze(1))
        self.register_buffer("synthesis_K1W", (back_KW * front.synthesis_W.double()).float().unsqueeze(1))
        self.register_buffer("mel_FM", front.mel_FM)

    def analyse(self, mix_BN: Tensor, valid_BT: Tensor) -> tuple[Tensor, Tensor]:
        from separative.model.frontend import features_of

        left = self.grid.window - self.grid.hop
        right = self.grid.frames(mix_BN.shape[-1]) * self.grid.hop - mix_BN.shape[-1]
        padded_B1N = F.pad(mix_BN, (left, right)).unsqueeze(1)
        parts_BTK = F.conv1d(padded_B1N, self.analysis_K1W, stride=self.grid.hop).transpose(1, 2)
        parts_BTF2 = parts_BTK.unflatten(-1, (-1, 2))
        features = features_of(parts_BTF2 / self.grid.window**0.5, self.mel_FM, valid_BT)
        return features, parts_BTK * valid_BT.unsqueeze(-1)

    def synthesise(self, raw_BCTM: Tensor, represent_BTK: Tensor, samples: int) -> Tensor:
        from separative.model.frontend import mask_of

        real, imaginary = mask_of(raw_BCTM).unbind(-1)
        a, b = represent_BTK.unsqueeze(1).unflatten(-1, (-1, 2)).unbind(-1)
        masked = torch.stack([real * a - imaginary * b, real * b + imaginary * a], dim=-1).flatten(-2)
        waves = F.conv_transpose1d(
            masked.flatten(0, 1).transpose(1, 2), self.synthesis_K1W, stride=self.grid.hop
        )
        left = self.grid.window - self.grid.hop
        wave_BCN: Tensor = waves.squeeze(1).unflatten(0, raw_BCTM.shape[:2])
        return wave_BCN[..., left : left + samples]


def _card(model: SeparativeEncoder) -> dict[str, Any]:
    """What a user of the graph must know; names of speakers stay behind."""
    card = {key: value for key, value in model.card.items() if key != "data"}
    return card | {"architecture": model.config.model_dump(mode="json"), "rate": model.rate}


class _quiet:  # noqa: N801 (reads as a verb)
    """Loggers that tell of every step of an export hold their peace."""

    def __init__(self, *names: str) -> None:
        self.loggers = [logging.getLogger(name) for name in names]

    def __enter__(self) -> None:
        self.levels = [logger.level for logger in self.loggers]
        for logger in self.loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        for logger, level in zip(self.loggers, self.levels, strict=True):
            logger.setLevel(level)

"""An exported ONNX graph gives the outputs of the model for any number and length of waveforms."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from separative.errors import ModelError
from separative.inference.export import MIN_TORCH, export
from separative.model import EncoderConfig, SeparativeEncoder

# The documented tolerance. Summing float32 numbers in another order changes results by a hundredth of it.
PARITY = 1e-4
OLDER = tuple(map(int, torch.__version__.split(".")[:2])) < tuple(map(int, MIN_TORCH.split(".")))


@pytest.fixture(scope="module")
def session(model, tmp_path_factory: pytest.TempPathFactory):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    if OLDER:
        pytest.skip(f"torch {torch.__version__} cannot export a model, {MIN_TORCH} can")
    export(model, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def test_outputs_agree_for_twenty_lengths(model, session) -> None:
    rng = np.random.default_rng(0)
    names = [output.name for output in session.get_outputs()]
    for length in [400, 4000, 8000, 8001, *rng.integers(500, 60_000, 16)]:
        mix_BN = 0.1 * rng.standard_normal((int(rng.integers(1, 4)), int(length))).astype(np.float32)
        found = dict(zip(names, session.run(None, {"mixture": mix_BN}), strict=True))
        with torch.inference_mode():
            out = model(torch.from_numpy(mix_BN))
        expected = {
            "embedding": out.attended_BCE,
            "activity": out.activity_BCS.sigmoid(),
            "query": out.query_BCE,
            "segment": out.segment_BCSE,
            "waveform": out.estimate_BCN,
        }
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value.numpy(), atol=PARITY, err_msg=f"{name} at {length}")


def test_the_metadata_hold_the_card_without_speaker_names(model, session) -> None:
    card = json.loads(session.get_modelmeta().custom_metadata_map["separative"])
    assert card["rate"] == model.rate and card["architecture"]["streams"] == model.streams
    assert "data" not in card


def test_another_suffix_is_refused(model, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"must end in \.onnx"):
        export(model, tmp_path / "model.pt")


def test_a_model_with_mels_in_its_speaker_head_gives_the_same(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if OLDER:
        pytest.skip(f"torch {torch.__version__} cannot export a model, {MIN_TORCH} can")
    torch.manual_seed(0)
    sizes = {"width": 16, "speaker_width": 16, "embedding": 8, "shared_blocks": 1, "stream_blocks": 1}
    small = SeparativeEncoder(EncoderConfig(speaker_mels=True, **sizes)).eval()
    torch.nn.init.normal_(small.separation.mask.weight, std=0.3)
    session = onnxruntime.InferenceSession(str(export(small, tmp_path / "model.onnx")))
    mix_BN = 0.1 * np.random.default_rng(0).standard_normal((2, 9000)).astype(np.float32)
    [found] = session.run(["query"], {"mixture": mix_BN})
    with torch.inference_mode():
        expected = small(torch.from_numpy(mix_BN)).query_BCE.numpy()
    np.testing.assert_allclose(found, expected, atol=PARITY)

"""Changed, damaged and absurd models are refused by the name of the file, before anything is allocated."""

import copy
import json
import random
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from model_helpers import forge, resign
from safetensors.torch import save

from separative.errors import ModelError
from separative.model import SeparativeEncoder, load_model, save_model, update_card
from separative.model.card import read_card

Make = Callable[..., SeparativeEncoder]


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_any_flipped_bit_of_a_file_is_refused_by_its_name(folder: Path, name: str) -> None:
    path, rng = folder / name, random.Random(1)
    whole = path.read_bytes()
    bits = range(8 * len(whole)) if name == "model.json" else rng.sample(range(8 * len(whole)), 200)
    for bit in bits:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=name.replace(".", r"\.")):
            # load_model reads the card first; without the weights, all bits take a few seconds.
            read_card(path) if name == "model.json" else load_model(folder)


def test_a_changed_card_is_refused_whatever_the_entry(folder: Path) -> None:
    card = json.loads((folder / "model.json").read_text())
    changes = {"identity": "recording", "metrics": {}, "digest": "", "sha256": "0" * 64, "licence": "none"}
    for key, value in changes.items():
        (folder / "model.json").write_text(json.dumps(card | {key: value}, indent=1) + "\n")
        with pytest.raises(ModelError, match=r"model\.json: checksum mismatch: the card was changed"):
            load_model(folder)
    (folder / "model.json").write_text(json.dumps(card, indent=1) + "\n")
    load_model(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(
    make: Make, folder: Path, tmp_path: Path, value: float
) -> None:
    model = copy.deepcopy(make())
    forged = {k: v.clone().contiguous() for k, v in model.state_dict().items()}
    forged["enter.bias"][0] = value
    forge(folder, save(forged))
    with pytest.raises(ModelError, match=r"model\.safetensors: the weights 'enter\.bias' are not all finite"):
        load_model(folder)
    with torch.no_grad():
        model.enter.bias[0] = value
    with pytest.raises(ModelError, match=r"not saved: the weights 'enter\.bias' are not all finite"):
        save_model(model, tmp_path / "new")
    with torch.no_grad():
        # Finite in single precision, infinite in half precision.
        model.enter.bias[0] = 1e6
    with pytest.raises(ModelError, match="not all finite"):
        save_model(model, tmp_path / "new", half=True)
    assert not (tmp_path / "new").exists()


ABSURD = [
    {"width": 60_000},
    {"front_end": "conv", "window_ms": 4, "hop_ms": 2, "filters": 10**9},
    {"window_ms": 1e9},
    {"window_ms": float("inf")},
    {"hop_ms": float("nan")},
    {"shared_blocks": 10**6},
    {"stream_blocks": 10**6},
    {"speaker_blocks": 10**6},
    {"speaker_width": 10**6},
    {"embedding": 10**9},
    {"mask_hidden": 10**9},
    {"mels": 10**9},
    {"kernel": 10**9 + 1},
    {"expansion": 1e9},
    {"dilations": [1] * 10**5},
    {"dilations": [10**12]},
    {"span": 10**12},
    {"pool": 10**12},
    {"segment_frames": 10**12},
    {"rate": 10**9},
    {"width": 10**5000},
    {"width": "wide"},
    {"width": None},
    {"width": []},
    {"dropout": {"rate": 1}},
    # Every value is allowed, but not all of them together.
    {"width": 8192, "heads": 4, "shared_blocks": 200},
    {"front_end": "conv", "window_ms": 1000, "hop_ms": 500, "filters": 8192, "rate": 96000},
    {"mask_hidden": 8192, "window_ms": 1000, "hop_ms": 500, "rate": 96000, "stack": 8},
]


@pytest.mark.parametrize("changes", ABSURD, ids=lambda changes: "-".join(changes))
def test_an_absurd_architecture_is_refused_before_anything_is_allocated(
    folder: Path, changes: dict[str, object]
) -> None:
    architecture = json.loads((folder / "model.json").read_text())["architecture"]
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        resign(folder, architecture=architecture | changes)
    finally:
        sys.set_int_max_str_digits(limit)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match=r"model\.json"):
        load_model(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize(
    "entries",
    [
        {"data": None},
        {"data": {"speakers": 3}},
        {"data": {"speakers": [1, 2]}},
        {"recipe": "base"},
        {"recipe": {"loss": []}},
        {"calibration": {"scale": "steep"}},
        {"calibration": {"scale": 0.0}},
        {"calibration": {"scale": float("nan")}},
        {"calibration": []},
        {"same": float("inf")},
        {"sha256": 5},
        {"identity": ["speaker"]},
        {"architecture": None},
        {"training": 1},
    ],
    ids=str,
)
def test_a_card_with_an_entry_of_the_wrong_type_is_refused(folder: Path, entries: dict[str, object]) -> None:
    resign(folder, **entries)
    with pytest.raises(ModelError, match=rf"model\.json: .*'{next(iter(entries))}"):
        load_model(folder)
    with pytest.raises(ModelError, match=r"model\.json"):
        update_card(folder, licence="none")


@pytest.mark.parametrize("text", ["[" * 10**5, '{"format": ' + "9" * 5000 + "}", '{"a":' * 10**5])
def test_a_card_that_only_a_parser_can_fail_on_is_refused(folder: Path, text: str) -> None:
    (folder / "model.json").write_text(text)
    with pytest.raises(ModelError, match=r"model\.json is not a model card"):
        load_model(folder)


def test_the_computed_number_of_parameters_is_that_of_the_model(make: Make) -> None:
    kinds = [(front, trunk) for front in ("stft", "conv") for trunk in ("conv", "recurrent")]
    for changes in ({}, {"mask_hidden": 12}, {"cross_attention": False, "consistency": False, "streams": 3}):
        for kind in kinds:
            model = make(*kind, **changes)
            assert model.config.parameters == sum(p.numel() for p in model.parameters())


def test_a_registered_name_is_never_taken_for_a_folder(
    model: SeparativeEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = load_model().card
    for name in ("base", "base/model", "run"):
        save_model(model, tmp_path / name, identity="speaker")
    assert load_model().card == load_model("base").card == shipped
    paths = ("./base", Path("base"), tmp_path / "base", str(tmp_path / "base"), "base/model")
    for path in (*paths, f"../{tmp_path.name}/base"):
        assert load_model(path).config == model.config
    # Another name is a folder of the working directory, as in `--model run`.
    assert load_model("run").config == model.config
    with pytest.raises(ModelError, match="no model at 'bases'"):
        load_model("bases")
    # Nothing outside of the package's models is a name.
    with pytest.raises(ModelError, match=r"no model at '\.\./files\.py'"):
        load_model("../files.py")

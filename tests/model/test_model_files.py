"""Models on disk: saving and loading is exact, and damaged or foreign files are refused by name."""

import copy
import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from model_helpers import forge, resign
from safetensors.torch import save

from separative.errors import ModelError
from separative.model import SeparativeEncoder, average_models, load_model, save_model, update_card

Make = Callable[..., SeparativeEncoder]


def test_a_loaded_model_equals_the_saved_one(make: Make, model: SeparativeEncoder, tmp_path: Path) -> None:
    loaded = load_model(save_model(model, tmp_path / "model", identity="recording"))
    assert not loaded.training and loaded.config == model.config
    assert loaded.card["identity"] == "recording"
    assert loaded.card["parameters"] == sum(p.numel() for p in model.parameters())
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    mix_BN = torch.randn(2, 2000, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for left, right in zip(model(mix_BN), loaded(mix_BN), strict=True):
            assert torch.equal(left, right)


def test_weights_in_half_precision_take_less_space(model: SeparativeEncoder, tmp_path: Path) -> None:
    whole = save_model(model, tmp_path / "whole", identity="speaker")
    half = save_model(load_model(whole), tmp_path / "half", half=True, **load_model(whole).card)
    loaded, ours = load_model(half), dict(model.named_parameters())
    assert loaded.card["identity"] == "speaker" and loaded.card["sha256"] != load_model(whole).card["sha256"]
    for name, weight in loaded.named_parameters():
        assert weight.dtype is torch.float32 and torch.equal(weight, ours[name].half().float())
    for name, buffer in loaded.named_buffers():
        assert torch.equal(buffer, dict(model.named_buffers())[name])
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (half, whole)]
    assert sizes[0] < 0.75 * sizes[1]


def test_the_folder_of_a_run_can_be_loaded(folder: Path) -> None:
    assert load_model(folder.parent).card == load_model(str(folder)).card
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]


def test_saving_again_replaces_the_model(make: Make, folder: Path) -> None:
    other = make("stft", "conv", width=16)
    save_model(other, folder)
    assert load_model(folder).config.width == 16


def test_updating_a_card_sets_only_the_given_entries(folder: Path) -> None:
    card, weights = load_model(folder).card, (folder / "model.safetensors").read_bytes()
    assert (
        update_card(folder.parent, calibration={"scale": 2.0}, identity="recording") == folder / "model.json"
    )
    changed = {**card, "calibration": {"scale": 2.0}, "identity": "recording"}
    assert load_model(folder).card == changed
    assert (folder / "model.safetensors").read_bytes() == weights
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    (folder / "model.json").write_text("{")
    with pytest.raises(ModelError, match="is not a model card"):
        update_card(folder, calibration=None)


@pytest.mark.parametrize("keep", [0, 1, 8, 200, -1])
def test_truncated_weights_are_refused(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        load_model(folder)


def test_any_flipped_bit_of_the_weights_is_refused(folder: Path) -> None:
    path, rng = folder / "model.safetensors", random.Random(0)
    whole = path.read_bytes()
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"model\.safetensors"):
            load_model(folder)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name):
        load_model(folder)


@pytest.mark.parametrize(
    "card", [b"", b"{", b"[]", b'"text"', b"\xff\xfe\x00", b"{}", b'{"format": 1}', b'{"format": 2}']
)
def test_a_card_that_is_damaged_or_of_another_format_is_refused(folder: Path, card: bytes) -> None:
    (folder / "model.json").write_bytes(card)
    with pytest.raises(ModelError, match=r"model\.(json|safetensors)"):
        load_model(folder)


def test_an_unknown_architecture_is_refused(folder: Path) -> None:
    card = json.loads((folder / "model.json").read_text())
    resign(folder, architecture=card["architecture"] | {"trunk": "spiral"})
    message = r"model\.json: this version cannot read the model: 'architecture\.trunk'"
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_weights_of_another_architecture_are_refused_with_the_name_of_a_tensor(
    make: Make, folder: Path
) -> None:
    forge(folder, save({k: v.contiguous() for k, v in make("stft", "recurrent").state_dict().items()}))
    with pytest.raises(ModelError, match=r"model\.safetensors is of another architecture: it differs at"):
        load_model(folder)
    forge(folder, save(make("stft", "conv", width=16).state_dict()))
    with pytest.raises(ModelError, match=r"model\.safetensors is of another architecture: it differs at"):
        load_model(folder)


def test_a_pickle_is_refused_and_not_run(folder: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)

    forge(folder, pickle.dumps(Trap()))
    with pytest.raises(ModelError):
        load_model(folder)
    assert not (tmp_path / "sprung").exists()


def test_the_default_model_comes_with_the_package(
    model: SeparativeEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from separative.cli import options
    from separative.model import files

    assert options.DEFAULT_MODEL == files.DEFAULT
    monkeypatch.setattr(files, "SHIPPED", tmp_path)
    with pytest.raises(ModelError, match="no model comes with this version"):
        load_model()
    save_model(model, tmp_path / "base", identity="speaker")
    save_model(model, tmp_path / "other")
    assert load_model().card == load_model("base").card
    assert files.model_names() == ("base", "other")


def test_a_folder_without_a_model_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model at '.*nothing'.*model\.json"):
        load_model(tmp_path / "nothing")


def test_an_average_has_the_mean_weights_and_all_training_speakers(make: Make, tmp_path: Path) -> None:
    model = make()
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(torch.randn_like(weight))
    cards = [{"data": {"speakers": [name], "hours": hours}} for name, hours in (("ann", 1), ("bob", 2))]
    one, two = (
        load_model(save_model(m, tmp_path / str(i), calibration={"scale": 1.0}, **card))
        for i, (m, card) in enumerate(zip((model, other), cards, strict=True))
    )
    mean = average_models([one, two])
    for name, weight in mean.state_dict().items():
        both = [m.state_dict()[name] for m in (one, two)]
        wanted = (both[0] + both[1]) / 2 if weight.is_floating_point() else both[1]
        torch.testing.assert_close(weight, wanted)
    assert mean.training_speakers == {"ann", "bob"} and mean.card["data"]["hours"] == 2
    assert mean.card["averaged"] == [one.card["sha256"], two.card["sha256"]]
    again = load_model(save_model(mean, tmp_path / "mean", **mean.card))
    assert "calibration" not in again.card and again.card["averaged"] == mean.card["averaged"]
    with pytest.raises(ModelError, match="averaging needs two or more models, not 1"):
        average_models([one])


def test_an_average_can_keep_half_of_the_attention_output(make: Make) -> None:
    model = make()
    with torch.no_grad():
        for weight in model.cross.out.parameters():
            weight.normal_(std=0.1)
    whole, half, none = (average_models([model, model], attention=share) for share in (1.0, 0.5, 0.0))
    assert half.card["attention"] == 0.5
    query_QE = torch.nn.functional.normalize(torch.randn(3, model.config.embedding), dim=1)
    memory_ME, bias_QM = torch.randn(9, model.config.embedding), torch.zeros(3, 9)
    attended = [m.cross.attend(query_QE, memory_ME, bias_QM) for m in (whole, half, none)]
    torch.testing.assert_close(attended[2], query_QE)
    # Half of the output is added in the same direction: all three embeddings are in one plane.
    for query_E, attended_E, half_E in zip(query_QE, *attended[:2], strict=True):
        assert query_E @ attended_E < query_E @ half_E < 1
        assert torch.linalg.svdvals(torch.stack([query_E, attended_E, half_E]))[-1] < 1e-5
    with pytest.raises(ModelError, match="must be a share from 0 to 1"):
        average_models([model, model], attention=1.5)


def test_models_of_different_architectures_cannot_be_averaged(make: Make) -> None:
    model = make()
    wider = SeparativeEncoder(model.config.model_copy(update={"embedding": 2 * model.config.embedding}))
    with pytest.raises(ModelError, match="of another architecture"):
        average_models([wider, model])

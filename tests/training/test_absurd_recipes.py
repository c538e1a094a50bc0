"""Recipes that would take all memory, or that no parser expects, are refused by their name and key."""

from itertools import pairwise
from pathlib import Path

import pytest

from separative.errors import RecipeError
from separative.training import load_recipe


@pytest.mark.parametrize(
    "override",
    [
        "model.width=60000",
        "model.shared_blocks=1000000",
        "model.window_ms=1e9",
        "model.window_ms=.inf",
        "model.hop_ms=.nan",
        "mixtures.batch=1000000000",
        "mixtures.seconds=.inf",
        "mixtures.seconds=1e9",
        "mixtures.streams=1000000",
        "mixtures.room_count=1000000000",
        "mixtures.sir_db=[-1e300, 1e300]",
        "mixtures.sir_db=[.nan, 1]",
        "mixtures.stages.0.views=1000000000",
        "optimiser.lr=.nan",
        "optimiser.clip=.inf",
        "optimiser.warmup=1000000000000",
        "optimiser.inventory_crops=1000000000",
        "run.steps=1000000000000",
        "run.workers=1000000",
        "run.threads=1000000",
        "run.log_every=0x" + "f" * 5000,
        "seed=" + "9" * 5000,
        "seed=1000000000000000000000",
        "loss.negatives=1000000000000",
        "loss.alpha=.inf",
    ],
    ids=lambda text: text[:40],
)
def test_an_absurd_recipe_is_refused_with_its_key(override: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("demo", [override])
    assert override.partition("=")[0] in str(caught.value)


def test_values_that_are_only_together_too_large_are_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"'mixtures': a training step would have 1.9e\+12 samples of audio"
    ):
        load_recipe("demo", ["mixtures.batch=65536", "mixtures.seconds=600"])
    with pytest.raises(RecipeError, match=r"'model': the model would have .* parameters; at most 2.7e\+08"):
        load_recipe("demo", ["model.width=8192", "model.shared_blocks=64"])
    with pytest.raises(RecipeError, match="'model': expansion"):
        load_recipe("demo", ["model.expansion=1e-9"])


ALPHABET = "abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise(ALPHABET)),
        "a: &a {x: 1}\n" + "".join(f"{b}: &{b} {{<<: [*{a}, *{a}]}}\n" for a, b in pairwise(ALPHABET)),
        "a: &a [*a]",
        "[" * 10**5,
        "? [a]\n: b",
        "seed: " + "9" * 5000,
        "name: " + "x" * (2 << 20),
    ],
    ids=["aliases", "merges", "itself", "deep", "list as key", "digits", "long"],
)
def test_a_hostile_recipe_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(RecipeError, match=r"recipe\.yaml"):
        load_recipe(tmp_path / "recipe.yaml")


def test_a_recipe_may_start_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes(b"\xef\xbb\xbfseed: 3\n")
    assert load_recipe(tmp_path / "recipe.yaml").seed == 3

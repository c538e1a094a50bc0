"""Noise clips are added only if there is a corpus of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from separative.corpora.manifest import Corpus
from separative.errors import CorpusError
from separative.training import Recipe, load_recipe, train


def test_noise_is_added_only_with_clips_and_a_run_resumes_with_them(
    recipe: Callable[..., Recipe], corpus: Corpus, cache: Path, tmp_path: Path
) -> None:
    plan, speech = recipe(mixtures={"stages": [{"step": 0, "noise": 0.5}]}), corpus.split("train")
    clips = speech.filter(lambda u: u.speaker == "t0")
    settings = {"corpus": speech, "cache": cache, "device": "cpu"}
    noisy = train(plan, noise=clips, out=tmp_path / "noisy", steps=1, **settings)
    with pytest.raises(CorpusError, match="there are no noise clips"):
        train(plan, out=noisy, steps=2, resume=True, **settings)
    clean = train(plan, out=tmp_path / "clean", steps=1, **settings)
    assert load_recipe(clean / "recipe.json").mixtures.stages[0].noise == 0
    # The same recipe continues, although that of the folder has no noise.
    train(plan, out=clean, steps=2, resume=True, **settings)

"""Mixtures of real speech and noise, read from compressed files."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from separative.corpora import Corpus, load_corpus
from separative.mixtures import Mixer, MixtureConfig, Stage
from separative.mixtures.gains import ratio_db

DATA = Path(os.environ.get("SEPARATIVE_DATA", Path(__file__).parents[3] / "shared" / "data"))
EXACT_DB = 0.01


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "speech.csv").is_file(), reason=f"no real corpora in {DATA}")
def test_real_speech_makes_exact_mixtures(tmp_path: Path) -> None:
    speech, noise = (load_corpus(DATA / name) for name in ("speech.csv", "noise.csv"))
    # Four speakers of each corpus. Some have a single long utterance, some have words of about a second.
    chosen: list[str] = []
    for name in sorted({u.corpus for u in speech}):
        chosen += sorted({u.speaker for u in speech if u.corpus == name and u.speaker})[:4]
    few = speech.filter(lambda u: u.speaker in chosen)
    config = MixtureConfig(
        batch=16, speeds=(0.9, 1.0, 1.1), channel=0.5, stages=(Stage(speakers=(0, 1), noise=1.0, views=2),)
    )
    mixer = Mixer(few, config, seed=1, noise=Corpus(noise.utterances[:20]), cache=tmp_path)
    assert not mixer.store.bad
    assert len(mixer.identities) == 3 * len(chosen) >= 48
    kinds = Counter[str]()
    for step in range(6):
        batch = mixer.batch(step)
        assert batch.mixtures.isfinite().all()
        for source_CN, info in zip(batch.sources.numpy(), batch.info, strict=True):
            sir_db = info["sources"][1]["sir_db"]
            assert ratio_db(*source_CN) == pytest.approx(sir_db, abs=EXACT_DB)
            assert (np.abs(source_CN) > 0).mean() > 0.4
            kinds.update(source["name"].split("/")[0] for source in info["sources"])
    assert len(kinds) == 5

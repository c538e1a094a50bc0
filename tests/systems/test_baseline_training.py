"""The training loop of the baseline systems: resuming changes nothing, and runs are not mixed up."""

import argparse
import importlib.util
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from separative import audio
from separative.corpora import Corpus, Utterance, save_corpus
from separative.mixtures import MixtureConfig

RATE = 4000
STEPS = 7

spec = importlib.util.spec_from_file_location(
    "baseline_loop", Path(__file__).parents[2] / "systems" / "loop.py"
)
loop = importlib.util.module_from_spec(spec)
spec.loader.exec_module(loop)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    utterances = []
    for speaker in range(6):
        path = folder / f"{speaker}.flac"
        tone = np.sin(np.arange(2 * RATE) * 0.1 * (speaker + 1))
        audio.write(path, (0.3 * tone + 0.01 * rng.standard_normal(2 * RATE)).astype(np.float32), RATE)
        utterances.append(Utterance(f"u{speaker}", path, 2.0, f"speaker {speaker}", split="train"))
    save_corpus(Corpus(tuple(utterances)), folder / "speech.jsonl")
    return folder / "speech.jsonl"


@pytest.fixture
def run(corpus, tmp_path):
    """``run(folder, stop_at, **options)`` trains a small network and stops it at its ``stop_at``-th loss."""
    config = MixtureConfig(rate=RATE, seconds=0.5, batch=3, streams=1, stages=({"speakers": (1.0,)},))

    def train(name: str, stop_at: int | None = None, **options) -> Path:
        words = ["--corpus", str(corpus), "--out", str(tmp_path / name), "--lr", "0.01"]
        args = loop.arguments("a test").parse_args([*words, "--seconds", str(STEPS * 1.5)])
        args = argparse.Namespace(**(vars(args) | {"cache": tmp_path / "cache"} | options))

        def build(mixer):
            network = nn.Sequential(nn.Linear(2000, 8), nn.BatchNorm1d(8), nn.Dropout(0.1))
            classes = nn.Linear(8, len(mixer.identities))
            calls = []

            def loss(batch):
                calls.append(batch)
                if len(calls) == stop_at:
                    os.kill(os.getpid(), signal.SIGTERM)
                scores = classes(network(batch.mixtures))
                return nn.functional.cross_entropy(scores, batch.identities[:, 0]), {}

            return network, classes, loss

        loop.train(args, config, {"system": "small"}, build)
        return args.out

    return train


def test_stopped_and_resumed_run_equals_uninterrupted_run(run, capsys):
    whole = load_file(run("whole") / "model.safetensors")
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["seconds"] == STEPS * 1.5
    assert printed["parameters"] == sum(
        w.numel() for n, w in whole.items() if n in ("0.weight", "0.bias", "1.weight", "1.bias")
    )
    for stop_at, resume in ((2, False), (3, True)):
        with pytest.raises(SystemExit) as stopped:
            run("parts", stop_at, resume=resume)
        assert stopped.value.code == 130
    parts = run("parts", resume=True)
    found = loop.weights(parts, "small")
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], whole[name]) for name in whole)
    # Resuming a finished run prints its figures again.
    run("parts", resume=True)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["seconds"] == STEPS * 1.5


def test_folder_of_another_run_is_refused(run):
    folder = run("one")
    with pytest.raises(SystemExit, match="holds a run"):
        run("one")
    with pytest.raises(SystemExit, match="differs from the given options"):
        run("one", resume=True, lr=0.02)
    with pytest.raises(SystemExit, match="a model of 'small'"):
        loop.weights(folder, "other")
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(SystemExit, match="damaged"):
        loop.weights(folder, "small")


def test_learning_rate_warms_up_and_ends_at_zero():
    assert loop.share_of_rate(0.0) == 0.0
    assert loop.share_of_rate(loop.WARM_UP) == 1.0
    assert loop.share_of_rate(1.0) == pytest.approx(0.0, abs=1e-12)
    rise = [loop.share_of_rate(share) for share in np.linspace(0, loop.WARM_UP, 9)]
    fall = [loop.share_of_rate(share) for share in np.linspace(loop.WARM_UP, 1, 9)]
    assert rise == sorted(rise)
    assert fall == sorted(fall, reverse=True)

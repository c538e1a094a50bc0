"""Synthetic rooms and noise, wide channels, and mixtures with all of them or without a speaker."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from separative.corpora.manifest import Corpus
from separative.errors import SeparativeError
from separative.mixtures import (
    BackgroundNoise,
    Channel,
    Mixer,
    MixtureConfig,
    NuisanceConfig,
    Stage,
    SyntheticRoom,
)
from separative.mixtures.gains import power
from separative.mixtures.noises import KINDS
from separative.model import EncoderConfig, SeparativeEncoder
from separative.objectives import LossConfig, SeparativeObjective

RATE = 8000
EVERY = {"channels": 1.0, "rooms": 1.0, "noises": 1.0, "microphones": 1.0}


def config(**changes: Any) -> MixtureConfig:
    base = {"rate": RATE, "seconds": 1.0, "streams": 3, "batch": 8, "speeds": (0.9, 1.0)}
    stages = (Stage(views=2, speakers=(0.2, 0.4, 0.4), noise=0.5),)
    return MixtureConfig.model_validate(base | {"stages": stages, "turns": 0.3, "channel": 0.3} | changes)


def band_db(wave: np.ndarray, rate: int, low: float, high: float) -> float:
    """Level of a band relative to the whole."""
    power_F = np.abs(np.fft.rfft(wave)) ** 2
    hertz_F = np.fft.rfftfreq(len(wave), 1 / rate)
    return float(10 * np.log10(power_F[(hertz_F >= low) & (hertz_F < high)].sum() / power_F.sum()))


# Rooms


def test_the_ratio_of_direct_to_reverberant_energy_follows_from_the_distance() -> None:
    room = SyntheticRoom(16000, 3, rt60=0.5, volume=100.0, distances_m=(0.4, 0.8, 1.6, 3.2))
    for position, drr_db in enumerate(room.drr_db):
        response_L = room.response(position).astype(np.float64)
        assert response_L[0] == 1.0
        assert -10 * np.log10((response_L[1:] ** 2).sum()) == pytest.approx(drr_db, abs=0.05)
    # The critical distance is 0.057·√(100/0.5) = 0.806 m; twice the distance has 6 dB less direct sound.
    assert room.drr_db[1] == pytest.approx(0.06, abs=0.05)
    assert np.diff(room.drr_db) == pytest.approx([-6.02] * 3, abs=0.02)


@pytest.mark.parametrize("rt60", [0.2, 0.5, 0.8])
def test_energy_decays_with_the_reverberation_time(rt60: float) -> None:
    room = SyntheticRoom(16000, 7, rt60=rt60, volume=80.0, distances_m=(2.0,))
    decay = np.cumsum(room.response(0)[:0:-1].astype(np.float64) ** 2)[::-1]
    level_db = 10 * np.log10(decay / decay[0])
    # T20 of ISO 3382: three times the time from -5 to -25 dB.
    t20 = 3 * float(np.argmax(level_db < -25) - np.argmax(level_db < -5)) / 16000
    assert 0.7 < t20 / rt60 < 1.2


def test_positions_of_a_room_differ_and_reverberation_is_a_convolution() -> None:
    room = SyntheticRoom.draw(np.random.default_rng(1), RATE, positions=3, distance_m=(2.0, 4.0))
    assert room == SyntheticRoom.draw(np.random.default_rng(1), RATE, positions=3, distance_m=(2.0, 4.0))
    assert all(2.0 <= metres <= 4.0 for metres in room.distances_m)
    wave = np.random.default_rng(0).standard_normal(3000).astype(np.float32)
    wet = [room.reverberate(wave, position) for position in range(3)]
    slow = np.convolve(wave.astype(np.float64), room.response(2))[:3000]
    np.testing.assert_allclose(wet[2], slow, atol=1e-4)
    assert not np.allclose(wet[0], wet[1], atol=0.1)


# Noise


@pytest.mark.parametrize("kind", list(KINDS))
def test_noise_has_unit_power_and_its_blocks_are_those_of_the_whole(kind: str) -> None:
    powers = []
    for seed in range(8):
        noise = BackgroundNoise.draw(np.random.default_rng(seed), RATE, kind)
        whole = noise.render(-RATE, 8 * RATE)
        powers.append(power(whole))
        block = noise.render(2 * RATE + 123, RATE)
        np.testing.assert_allclose(block, whole[3 * RATE + 123 : 4 * RATE + 123], atol=0.05)
    assert 0.4 < np.mean(powers) < 2.2
    assert not np.allclose(
        whole, BackgroundNoise.draw(np.random.default_rng(99), RATE, kind).render(-RATE, 8 * RATE)
    )


def test_kinds_of_noise_are_where_they_belong_in_the_spectrum() -> None:
    made = {
        kind: [BackgroundNoise.draw(np.random.default_rng(s), 16000, kind).render(0, 32000) for s in range(6)]
        for kind in KINDS
    }
    for wave in made["rumble"]:
        assert band_db(wave, 16000, 0, 125) > -0.5
    for wave in made["hum"]:
        power_F = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2
        strongest = np.flatnonzero(power_F > 0.05 * power_F.max()) / 2.0
        assert all(min(f % 50, -f % 50) <= 1.5 or min(f % 60, -f % 60) <= 1.5 for f in strongest)
    for wave in made["fan"]:
        assert band_db(wave, 16000, 0, 2500) > -1.0
    # Clicks are sparse: most of the energy is in a small part of the time.
    for wave in made["clicks"]:
        energy_T = np.sort((wave.reshape(-1, 160) ** 2).sum(axis=1))
        assert energy_T[-40:].sum() > 0.6 * energy_T.sum()


def test_kinds_can_be_drawn_together_and_unknown_ones_are_refused() -> None:
    noises = [BackgroundNoise.draw(np.random.default_rng(seed), RATE) for seed in range(60)]
    assert {kind for noise in noises for kind, _ in noise.gains} == set(KINDS)
    assert {len(noise.gains) for noise in noises} == {1, 2, 3}
    assert all(sum(gain**2 for _, gain in noise.gains) == pytest.approx(1.0, abs=1e-3) for noise in noises)
    with pytest.raises(SeparativeError, match="unknown kind of noise 'fam' \\(did you mean 'fan'"):
        BackgroundNoise.draw(np.random.default_rng(0), RATE, "fam")


# Wide channels


def test_wide_channels_cover_the_bands_of_real_recordings() -> None:
    """Gains relative to 250-500 Hz: bass to more than 20 dB, a fall of more than 20 dB to 2-4 kHz."""
    hertz = np.array([80.0, 350.0, 2800.0])
    channels = [Channel.draw_wide(np.random.default_rng(seed), 16000) for seed in range(400)]
    gain_db = np.array([20 * np.log10(channel.response(hertz)) for channel in channels])
    bass_db, treble_db = gain_db[:, 0] - gain_db[:, 1], gain_db[:, 2] - gain_db[:, 1]
    assert np.quantile(bass_db, 0.05) < -10
    assert np.quantile(bass_db, 0.95) > 20
    assert np.quantile(treble_db, 0.05) < -20
    assert np.quantile(treble_db, 0.95) > 10
    narrow = [Channel.draw(np.random.default_rng(seed), 16000) for seed in range(400)]
    narrow_db = np.array([20 * np.log10(channel.response(hertz)) for channel in narrow])
    assert treble_db.std() > 1.5 * (narrow_db[:, 2] - narrow_db[:, 1]).std()


# Mixtures


def test_everything_drawn_is_a_function_of_seed_and_index(speech: Corpus, noise: Corpus) -> None:
    every = config(nuisances=EVERY, empty=0.2)
    mixer, fresh = (Mixer(speech, every, seed=3, noise=noise) for _ in range(2))
    batches = [mixer.batch(step) for step in range(3)]
    for index in (17, 4, 23, 0):
        made, batch = fresh.mixture(index), batches[index // 8]
        np.testing.assert_array_equal(made.waveform, batch.mixtures[index % 8])
        np.testing.assert_array_equal(made.sources, batch.sources[index % 8])
        assert json.dumps(made.info) == json.dumps(batch.info[index % 8])
    # Every view has nuisances of its own.
    drawn = [json.dumps(info["nuisances"]) for batch in batches for info in batch.info]
    assert len(set(drawn)) == 24


def test_a_mixture_with_nuisances_is_the_sum_of_its_parts(speech: Corpus, noise: Corpus) -> None:
    mixer = Mixer(speech, config(nuisances=EVERY), seed=4, noise=noise)
    plain = Mixer(speech, config(), seed=4, noise=noise)
    for index in range(40):
        made, other = mixer.mixture(index), plain.mixture(index)
        np.testing.assert_array_equal(made.waveform, made.sources.sum(axis=0) + made.noise)
        assert np.isfinite(made.waveform).all()
        assert np.abs(made.waveform).max() <= 1.0 + 1e-6
        # Everything else is drawn as without nuisances.
        assert made.identities == other.identities
        assert [s["crops"] for s in made.info["sources"]] == [s["crops"] for s in other.info["sources"]]
        assert made.info["nuisances"]["microphone"]["level_db"] == made.info["level_db"]
        assert "nuisances" not in other.info


@pytest.mark.parametrize(("kind", "lowest", "highest"), [("synthetic", 5.0, 35.0), ("babble", 10.0, 30.0)])
def test_added_noise_is_at_the_ratio_that_was_drawn(
    speech: Corpus, kind: str, lowest: float, highest: float
) -> None:
    quiet = config(nuisances={"noises": 1.0}, stages=(Stage(speakers=(0.5, 0.5)),))
    mixer, seen = Mixer(speech, quiet, seed=5), 0
    for index in range(80):
        made = mixer.mixture(index)
        drawn = made.info["nuisances"]
        if (drawn["babble"] > 0) == (kind == "babble"):
            ratio = 10 * np.log10(power(made.sources.sum(axis=0)) / power(made.noise))
            # Synthetic noise has unit power over a long time, not in every second.
            assert ratio == pytest.approx(drawn["noise_db"], abs=0.1 if kind == "babble" else 12.0)
            assert lowest <= drawn["noise_db"] <= highest
            seen += 1
    assert seen > 3


def test_mixtures_without_a_speaker_have_no_source_and_no_identity(speech: Corpus, noise: Corpus) -> None:
    for shares in ({}, EVERY):
        mixer = Mixer(speech, config(nuisances=shares, empty=0.5), seed=6, noise=noise)
        silent = empty = 0
        for index in range(80):
            made = mixer.mixture(index)
            assert made.info["nuisances"]["empty"] == (made.info["sources"] == [])
            if made.info["sources"]:
                assert made.identities[0] >= 0
                continue
            empty += 1
            assert made.identities == (-1, -1, -1)
            assert not made.sources.any()
            np.testing.assert_array_equal(made.waveform, made.noise)
            silent += power(made.waveform) < 1e-9
        assert 25 <= empty <= 55
        assert 1 <= silent < empty / 2


def test_a_batch_without_a_speaker_trains(speech: Corpus, noise: Corpus) -> None:
    torch.manual_seed(0)
    mixer = Mixer(
        speech, config(nuisances=EVERY, empty=0.9, streams=2, stages=(Stage(views=2),)), seed=7, noise=noise
    )
    encoder = EncoderConfig(
        rate=RATE, width=16, speaker_width=16, embedding=8, shared_blocks=1, stream_blocks=1
    )
    model = SeparativeEncoder(encoder)
    objective = SeparativeObjective(LossConfig(), len(mixer.identities), 8)
    batch = mixer.batch(0)
    # A mixture of digital zeros, and otherwise noise.
    empty_B = (batch.identities < 0).all(dim=1)
    assert empty_B.sum() >= 4
    batch.mixtures[int(empty_B.nonzero()[0])] = 0.0
    losses = objective(model, batch.mixtures, batch.sources, batch.identities, batch.groups)
    losses.total.backward()
    grads = [p.grad for p in [*model.parameters(), *objective.parameters()] if p.grad is not None]
    assert losses.total.isfinite()
    assert all(g.isfinite().all() for g in grads)
    # With empty mixtures only, there is no contrastive loss; activity and separation still teach silence.
    only = [x[empty_B] for x in (batch.mixtures, batch.sources, batch.identities)]
    losses = objective(model, *only, torch.arange(int(empty_B.sum())))
    assert losses.parts["csc_query"] == losses.parts["csc_attended"] == 0.0
    assert losses.parts["activity"] > 0
    assert losses.total.isfinite()


def test_learning_from_empty_mixtures_silences_the_estimates() -> None:
    torch.manual_seed(1)
    encoder = EncoderConfig(
        rate=RATE, width=16, speaker_width=16, embedding=8, shared_blocks=1, stream_blocks=1
    )
    model, objective = SeparativeEncoder(encoder), SeparativeObjective(LossConfig(separation=1.0), 4, 8)
    mixtures = 0.05 * torch.randn(4, RATE)
    sources, no_speaker, groups = torch.zeros(4, 2, RATE), torch.full((4, 2), -1), torch.arange(4)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    values = []
    for _ in range(40):
        losses = objective(model, mixtures, sources, no_speaker, groups)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        values.append((float(losses.parts["separation_db"]), float(losses.parts["activity"])))
    assert values[-1][0] < values[0][0] - 10
    assert values[-1][1] < 0.5 * values[0][1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"nuisances": {"room": 0.5}}, "Extra inputs are not permitted"),
        ({"nuisances": {"rooms": 1.5}}, "less than or equal to 1"),
        ({"nuisances": {"distance_m": (0.0, 2.0)}}, "distances must be between 0.05 and 20 metres"),
        ({"empty": 1.0}, "less than or equal to 0.9"),
    ],
)
def test_wrong_nuisances_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MixtureConfig.model_validate(wrong)
    assert not NuisanceConfig().active

"""Mixtures are exact sums at exact ratios, and depend only on seed and index."""

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from separative.corpora.manifest import Corpus, Utterance
from separative.errors import CorpusError, SeparativeError
from separative.mixtures import Batch, Mixer, MixtureConfig, Stage, loader, sources
from separative.mixtures.gains import ratio_db

EXACT_DB = 0.01
SUM = 1e-6
RATE = 8000


def config(**changes: Any) -> MixtureConfig:
    busy = Stage(views=2, speakers=(0.2, 0.4, 0.4), noise=0.5)
    base = {"rate": RATE, "seconds": 1.0, "streams": 3, "batch": 8, "speeds": (0.9, 1.0), "stages": (busy,)}
    return MixtureConfig.model_validate(base | {"channel": 0.5, "overlap": (0.4, 1.0)} | changes)


def same(a: Batch, b: Batch) -> bool:
    tensors = all(getattr(a, n).equal(getattr(b, n)) for n in ("mixtures", "sources", "identities", "groups"))
    return tensors and json.dumps(a.info) == json.dumps(b.info)


@pytest.fixture(scope="module")
def mixer(speech: Corpus, noise: Corpus) -> Mixer:
    return Mixer(speech, config(), seed=3, noise=noise)


@pytest.mark.parametrize("rooms", [0.0, 1.0])
def test_sums_ratios_and_levels_are_exact(speech: Corpus, noise: Corpus, rooms: float) -> None:
    if rooms:
        pytest.importorskip("pyroomacoustics", reason="needs the extra 'rooms'")
    mixer = Mixer(speech, config(rooms=rooms, rt60=(0.2, 0.25), room_count=2), seed=3, noise=noise)
    seen = Counter[str]()
    for index in range(48):
        made = mixer.mixture(index)
        total = made.sources.astype(np.float64).sum(axis=0) + made.noise
        np.testing.assert_allclose(made.waveform, total, atol=SUM)
        assert 20 * np.log10(np.sqrt(np.mean(total**2))) == pytest.approx(made.info["level_db"], abs=EXACT_DB)
        target_N, sources = made.sources[0], made.info["sources"]
        for source, wave_N in zip(sources[1:], made.sources[1:], strict=False):
            start, end = source["span"]
            assert ratio_db(target_N, wave_N[start:end]) == pytest.approx(source["sir_db"], abs=EXACT_DB)
            assert -5 <= source["sir_db"] <= 5
            assert 0.4 * RATE - 1 <= end - start <= RATE
            assert rooms or not (wave_N[:start].any() or wave_N[end:].any())
        if made.info["noise"]:
            assert ratio_db(target_N, made.noise) == pytest.approx(made.info["noise"]["snr_db"], abs=EXACT_DB)
        assert bool(made.info["noise"]) == bool(made.noise.any())
        assert (made.info["room"] is not None) == bool(rooms)
        assert not made.sources[len(sources) :].any()
        assert made.identities[len(sources) :] == (-1,) * (3 - len(sources))
        seen.update([f"{len(sources)} speakers", f"noise {bool(made.info['noise'])}"])
    assert len(seen) == 5


def test_full_overlap_covers_the_mixture(speech: Corpus) -> None:
    mixer = Mixer(speech, config(overlap=(1, 1), stages=(Stage(speakers=(0, 1)),)), seed=1)
    for made in (mixer.mixture(i) for i in range(8)):
        assert made.info["sources"][1]["span"] == (0, RATE)
        assert ratio_db(*made.sources[:2]) == pytest.approx(made.info["sources"][1]["sir_db"], abs=EXACT_DB)


def test_speakers_take_turns_if_configured_and_other_mixtures_do_not_change(
    speech: Corpus, noise: Corpus
) -> None:
    plain = config(overlap=(1, 1), stages=(Stage(speakers=(0.3, 0.7), noise=0.5),))
    every = Mixer(speech, plain.model_copy(update={"turns": 1.0}), seed=2, noise=noise)
    never = Mixer(speech, plain, seed=2, noise=noise)
    counts_N = []
    for index in range(40):
        made, other = every.mixture(index), never.mixture(index)
        assert made.identities == other.identities or len(made.info["sources"]) > 1
        sources = made.info["sources"]
        if len(sources) == 1:
            # A single speaker covers the whole mixture.
            np.testing.assert_array_equal(made.waveform, other.waveform)
            continue
        active = np.zeros((2, RATE), bool)
        for row, (source, wave_N) in enumerate(zip(sources, made.sources, strict=False)):
            start, end = source["span"]
            assert 0.3 * RATE - 1 <= end - start <= 0.8 * RATE + 1
            assert not (wave_N[:start].any() or wave_N[end:].any())
            active[row, start:end] = True
        first, last = sources[0]["span"]
        start, end = sources[1]["span"]
        spoken_parts = made.sources[0, first:last], made.sources[1, start:end]
        assert ratio_db(*spoken_parts) == pytest.approx(sources[1]["sir_db"], abs=EXACT_DB)
        counts_N.append(active.sum(0))
    shares = np.bincount(np.concatenate(counts_N), minlength=3) / RATE / len(counts_N)
    assert (shares > 0.1).all()  # no speaker, one speaker, both


def test_a_batch_does_not_depend_on_earlier_ones(
    speech: Corpus, noise: Corpus, mixer: Mixer, tmp_path: Path
) -> None:
    forward = [mixer.batch(step) for step in range(4)]
    fresh = Mixer(speech, config(), seed=3, noise=noise, cache=tmp_path)
    assert all(same(fresh.batch(step), forward[step]) for step in (3, 0, 2, 1))
    for index in (0, 5, 31):
        again, whole = fresh.mixture(index), forward[index // 8]
        assert again.info["index"] == index
        np.testing.assert_array_equal(again.waveform, whole.mixtures[index % 8])
        np.testing.assert_array_equal(again.sources, whole.sources[index % 8])
    assert not same(Mixer(speech, config(), seed=4, noise=noise).batch(0), forward[0])


def test_the_number_of_workers_changes_nothing(mixer: Mixer) -> None:
    none, two = (list(loader(mixer, first_step=2, steps=3, workers=workers)) for workers in (0, 2))
    assert len(none) == len(two) == 3
    assert all(same(a, b) for a, b in zip(none, two, strict=True))
    assert same(none[1], mixer.batch(3))


def test_a_mixer_that_is_sent_to_a_new_process_draws_the_same(mixer: Mixer) -> None:
    # On Windows and macOS, and from Python 3.14 on, workers do not start with a copy of the memory.
    assert same(pickle.loads(pickle.dumps(mixer)).batch(3), mixer.batch(3))


def test_groups_have_one_target_and_different_interferers(mixer: Mixer) -> None:
    speeds = len(mixer.config.speeds)
    for step in range(12):
        batch = mixer.batch(step)
        assert batch.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
        targets = batch.identities[:, 0].reshape(4, 2)
        assert (targets[:, 0] == targets[:, 1]).all()
        assert len(set(targets[:, 0].tolist())) == 4
        for identity_C in batch.identities.tolist():
            speakers = [identity // speeds for identity in identity_C if identity >= 0]
            assert len(speakers) == len(set(speakers))
        for first, second in zip(batch.info[::2], batch.info[1::2], strict=True):
            # A speaker has three utterances, so the two views start with different ones.
            starts = {view["sources"][0]["crops"][0]["utterance"] for view in (first, second)}
            interferers = [
                source["name"] for view in (first, second) for source in view["sources"][1:] if source["name"]
            ]
            assert len(starts) == 2
            assert len(set(interferers)) == len(interferers)
            assert first["level_db"] != second["level_db"]


def test_an_epoch_visits_every_identity_once(speech: Corpus) -> None:
    mixer = Mixer(speech, config(batch=4, stages=(Stage(), Stage(step=7, views=2))), seed=0)
    assert len(mixer.identities) == 16
    # Four steps of four targets in the first stage, eight of two in the second.
    epochs = [
        [t for step in steps for t in mixer.targets(step).tolist()] for steps in (range(4), range(7, 15))
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(16))
    assert epochs[0] != epochs[1]


def test_drawn_mixtures_follow_the_curriculum(speech: Corpus, noise: Corpus) -> None:
    stages = (Stage(speakers=(1,), noise=0), Stage(step=40, speakers=(0, 0.5, 0.5), noise=1))
    mixer = Mixer(speech, config(batch=16, seconds=0.2, stages=stages, channel=0.0), seed=0, noise=noise)
    infos = [info for step in range(10, 30) for info in mixer.batch(step).info]
    counts = Counter(len(info["sources"]) for info in infos)
    noisy = sum(info["noise"] is not None for info in infos)
    # Half way between the stages: (0.5, 0.25, 0.25) and 0.5 of 320. Four standard deviations are 36 and 31.
    assert abs(counts[1] - 160) < 36 and abs(counts[2] - 80) < 31 and abs(counts[3] - 80) < 31
    assert abs(noisy - 160) < 36
    assert {len(info["sources"]) for info in mixer.batch(0).info} == {1}


def pitch(wave_N: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(wave_N * np.hanning(len(wave_N)), 1 << 16))
    return float(spectrum[: (1 << 16) * 300 // RATE].argmax()) * RATE / (1 << 16)


def test_a_speed_is_a_new_identity_of_another_pitch(speech: Corpus) -> None:
    single = config(channel=0.0, stages=(Stage(speakers=(1,)),), speeds=(0.8, 1.0, 1.25), batch=24)
    mixer = Mixer(speech, single, seed=0)
    assert mixer.identities[:4] == ("t0@0.8", "t0", "t0@1.25", "t1@0.8")
    batch = mixer.batch(0)
    assert sorted(batch.identities[:, 0].tolist()) == list(range(24))
    for (identity, *_), wave_N in zip(batch.identities.tolist(), batch.sources[:, 0].numpy(), strict=True):
        speaker, speed = divmod(identity, 3)
        assert pitch(wave_N) == pytest.approx((90 + 17 * speaker) * single.speeds[speed], rel=0.02)


@pytest.mark.parametrize(
    ("identity", "unlabelled", "identities", "unnamed"),
    [
        ("speaker", "interfere", 8, True),
        ("speaker", "identity", 11, False),
        ("speaker", "drop", 8, False),
        ("recording", "interfere", 27, False),
        ("recording", "drop", 24, False),
    ],
)
def test_identity_and_unlabelled_determine_the_identities(
    speech: Corpus, identity: str, unlabelled: str, identities: int, unnamed: bool
) -> None:
    kinds = config(identity=identity, unlabelled=unlabelled, speeds=(1.0,), stages=(Stage(speakers=(0, 1)),))
    mixer = Mixer(speech, kinds, seed=0)
    assert len(mixer.identities) == identities
    batches = [mixer.batch(step) for step in range(12)]
    interferers = [identity for batch in batches for identity in batch.identities[:, 1].tolist()]
    assert (-1 in interferers) == unnamed
    assert all((batch.sources[:, 1] != 0).any(dim=1).all() for batch in batches)
    assert all(batch.identities[:, 0].min() >= 0 for batch in batches)


def test_short_utterances_are_joined_and_little_speech_is_padded(speech: Corpus) -> None:
    plain = config(channel=0.0, speeds=(1.0,), seconds=3.0, stages=(Stage(speakers=(1,)),))
    for info in Mixer(speech, plain, seed=0).batch(0).info:
        # The three utterances have 0.4 + 1.0 + 1.6 seconds, exactly the length of the mixture.
        assert sum(crop["samples"] for crop in info["sources"][0]["crops"]) == 3 * RATE
        assert len({crop["utterance"] for crop in info["sources"][0]["crops"]}) == 3
    longer = Mixer(speech, plain.model_copy(update={"seconds": 4.0}), seed=0).batch(0)
    assert {int((wave_N != 0).sum()) // 100 for wave_N in longer.sources[:, 0]} <= {239, 240}


def test_crops_prefer_speech(tmp_path: Path) -> None:
    def mostly_silent(speaker: int) -> np.ndarray:
        wave = np.zeros(20 * RATE)
        wave[8 * RATE : 8 * RATE + 400] = 0.1 * np.random.default_rng(speaker).standard_normal(400)
        return wave

    made = []
    for speaker in range(2):
        path = tmp_path / f"{speaker}.flac"
        soundfile.write(path, mostly_silent(speaker), RATE)
        made.append(Utterance(id=str(speaker), path=path, seconds=20.0, speaker=str(speaker)))
    mixer = Mixer(
        Corpus(tuple(made)), config(batch=2, speeds=(1.0,), stages=(Stage(speakers=(0, 1)),)), seed=0
    )
    for index in range(20):
        assert mixer.mixture(index).sources[:2].any(axis=1).all()


def test_a_corpus_that_is_too_small_is_refused_with_the_reason(
    speech: Corpus, noise: Corpus, tmp_path: Path
) -> None:
    two = speech.filter(lambda u: u.speaker in ("t0", "t1"))
    with pytest.raises(CorpusError, match="2 speakers, but mixtures of 3 speakers need 3"):
        Mixer(two, config(), seed=0, noise=noise)
    with pytest.raises(CorpusError, match=r"4 identities.*but a step needs 8 different targets"):
        Mixer(two, config(stages=(Stage(),)), seed=0)
    with pytest.raises(CorpusError, match="no noise clips"):
        Mixer(speech, config(), seed=0)
    with pytest.raises(SeparativeError, match="seed -1"):
        Mixer(speech, config(), seed=-1, noise=noise)
    lost = Utterance(id="lost", path=tmp_path / "lost.wav", seconds=1.0, speaker="t9")
    for cache in (None, tmp_path / "cache"):
        with_lost = Mixer(Corpus((*speech, lost)), config(stages=(Stage(),)), seed=0, cache=cache)
        if cache is None:
            with pytest.raises(CorpusError, match=r"lost\.wav"):
                [with_lost.batch(step) for step in range(9)]
        else:
            assert "t9" not in with_lost.identities
            assert list(with_lost.store.bad) == [lost.path]


def test_written_parts_add_up_to_the_mixture(mixer: Mixer, tmp_path: Path) -> None:
    batch = mixer.batch(1)
    for path, info in zip(batch.write(tmp_path), batch.info, strict=True):
        mix_N, rate = soundfile.read(path, dtype="float32")
        stem = path.name.removesuffix("-mix.wav")
        parts = [soundfile.read(p, dtype="float64")[0] for p in tmp_path.glob(f"{stem}-*.wav") if p != path]
        assert rate == RATE
        assert len(parts) == len(info["sources"]) + (info["noise"] is not None)
        np.testing.assert_allclose(np.sum(parts, axis=0), mix_N, atol=SUM)
        written = json.loads((tmp_path / f"{stem}.json").read_text())
        np.testing.assert_array_equal(mixer.mixture(written["index"]).waveform, mix_N)


def test_views_of_a_group_do_not_overlap_where_their_length_allows(speech: Corpus) -> None:
    """Each recording alone lasts 2 s: four views of 0.4 s fit in it at speeds below 1.2, ten do not."""
    recordings = speech.filter(lambda u: u.speaker is None)
    for views, seconds, apart in ((4, 0.4, True), (10, 0.4, False)):
        stage = Stage(views=views, speakers=(1.0,))
        plan = {"identity": "recording", "streams": 1, "speeds": (0.9, 1.1), "disjoint": True}
        mixer = Mixer(
            recordings, config(batch=3 * views, seconds=seconds, stages=(stage,), **plan), seed=3, noise=None
        )
        shared = 0
        for step in range(2):
            for number in range(3):
                taken = Counter[int]()
                for mixture in mixer.group(step, number).mixtures:
                    for crop in mixture.info["sources"][0]["crops"]:
                        taken.update(range(crop["start"], crop["start"] + crop["samples"]))
                shared += max(taken.values()) > 1
        assert (shared == 0) == apart


def test_views_take_parts_of_all_utterances_of_a_speaker(speech: Corpus) -> None:
    stage = Stage(views=2, speakers=(1.0,))
    plan = config(batch=4, seconds=1.0, streams=1, speeds=(1.0,), stages=(stage,), disjoint=True)
    mixer = Mixer(speech.filter(lambda u: u.speaker is not None), plan, seed=3)
    for step in range(4):
        for number in range(2):
            group = mixer.group(step, number)
            taken = Counter[tuple[str, int]]()
            for mixture in group.mixtures:
                for crop in mixture.info["sources"][0]["crops"]:
                    span = range(crop["start"], crop["start"] + crop["samples"])
                    taken.update((crop["utterance"], n) for n in span)
            assert max(taken.values()) == 1 and taken.total() == 2 * RATE


def test_interferers_are_similar_to_the_target_as_often_as_configured(
    speech: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "SIMILAR", 2)
    # The voices are on a half circle in the order of their pitch: those next to a speaker are most similar.
    angle = {u.id: int(u.id[1]) * np.pi / 9 for u in speech if u.speaker}
    vectors = {name: np.array([np.cos(a), np.sin(a)], np.float32) for name, a in angle.items()}
    two = (Stage(speakers=(0.0, 1.0)),)
    shares = {}
    for share in (0.0, 0.5, 1.0):
        drawn = Mixer(speech, config(similar=share, stages=two, unlabelled="drop", speeds=(1.0,)), seed=3)
        drawn.pool = drawn.pool.with_vectors(vectors)
        pairs = [drawn.batch(step).identities[:, :2].tolist() for step in range(25)]
        assert all(a != b for step in pairs for a, b in step)
        near = [b in drawn.pool.similar[a] for step in pairs for a, b in step]
        shares[share] = np.mean(near)
    # Of the 7 others, 2 are similar; 200 pairs have a standard deviation of up to 0.04.
    assert shares[1.0] == 1.0
    assert shares[0.0] == pytest.approx(2 / 7, abs=0.12)
    assert shares[0.5] == pytest.approx(9 / 14, abs=0.12)

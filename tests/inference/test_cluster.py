"""Clustering of the streams of many windows, on simulated embeddings of known speakers."""

from types import SimpleNamespace

import numpy as np
import pytest

from separative.errors import ModelError, SeparativeError
from separative.inference.cluster import cluster_speakers
from separative.inference.counting import CountingRule, Merging, SpeakerLimits, eigengap_evidence


def cluster(*args, speakers: int | None = None, **options) -> tuple[np.ndarray, np.ndarray]:
    """Labels and mean embeddings that :func:`cluster_speakers` finds, with the number of speakers given."""
    found = cluster_speakers(*args, limits=SpeakerLimits.of(speakers), **options)
    return found.label, found.mean


def simulate(speakers: int, windows: int, spread: float, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Embeddings, seconds of speech and speakers [W,C] of windows with two streams.

    An embedding is the direction of a speaker plus noise. The second stream is active in half of the windows.
    """
    rng = np.random.default_rng(seed)
    speaker_KE = rng.standard_normal((speakers, 32))
    speaker_KE /= np.linalg.norm(speaker_KE, axis=1, keepdims=True)
    true_WC = np.stack([rng.permutation(speakers)[:2] for _ in range(windows)])
    embed_WCE = speaker_KE[true_WC] + spread * rng.standard_normal((windows, 2, 32))
    embed_WCE /= np.linalg.norm(embed_WCE, axis=2, keepdims=True)
    seconds_WC = np.full((windows, 2), 3.0)
    seconds_WC[rng.random(windows) < 0.5, 1] = 0.0
    return embed_WCE.astype(np.float32), seconds_WC.astype(np.float32), true_WC


@pytest.mark.parametrize("speakers", [2, 3, 6])
@pytest.mark.parametrize("known", [False, True])
def test_speakers_are_counted_and_separated(speakers: int, known: bool) -> None:
    embed, seconds, true = simulate(speakers, 120, 0.08)
    label_WC, mean_KE = cluster(
        embed, seconds, seconds, same_cosine=0.5, speakers=speakers if known else None
    )
    assert len(mean_KE) == speakers
    active = seconds > 0
    assert (label_WC[~active] == -1).all()
    pairs = set(zip(true[active].tolist(), label_WC[active].tolist(), strict=True))
    assert len(pairs) == speakers


def test_few_windows_are_clustered_by_cosine() -> None:
    embed, seconds, true = simulate(2, 5, 0.05)
    seconds[:] = 3.0
    label_WC, mean_KE = cluster(embed, seconds, np.zeros_like(seconds), same_cosine=0.5)
    assert len(mean_KE) == 2
    assert len(set(zip(true.flat, label_WC.flat, strict=True))) == 2


def test_speakers_are_found_among_streams_that_are_active_alone() -> None:
    """Embeddings of overlapped streams move towards each other. They are not an additional speaker."""
    embed, seconds, _ = simulate(3, 200, 0.08, seed=3)
    between = embed.sum(1, keepdims=True) * np.float32(0.7)
    embed[100:] = (between / np.linalg.norm(between, axis=2, keepdims=True))[100:]
    seconds[100:] = 2.0
    alone = seconds.copy()
    alone[100:] = 0.0
    alone[:100][seconds[:100].min(1) > 0] = 0.0
    assert len(cluster(embed, seconds, alone, same_cosine=0.5)[1]) == 3


def test_attended_embeddings_correct_the_assignment_of_streams() -> None:
    embed, seconds, true = simulate(3, 150, 0.08, seed=4)
    seconds[:] = 3.0
    # A fifth of the streams has noisy queries. Their attended embeddings are clean.
    rng = np.random.default_rng(5)
    noisy = embed + 0.8 * rng.standard_normal(embed.shape).astype(np.float32) * (
        rng.random((150, 2, 1)) < 0.2
    )
    noisy /= np.linalg.norm(noisy, axis=2, keepdims=True)
    own_WC, own_KE = cluster(noisy, seconds, seconds, same_cosine=0.5, speakers=3)
    label_WC, mean_KE = cluster(noisy, seconds, seconds, same_cosine=0.5, speakers=3, attended=embed)
    assert len(own_KE) == len(mean_KE) == 3
    by_query = {k: np.bincount(true[own_WC == k]).argmax() for k in range(3)}
    by_attended = {k: np.bincount(true[label_WC == k]).argmax() for k in range(3)}
    assert set(by_query.values()) == set(by_attended.values()) == {0, 1, 2}
    wrong = [
        np.mean([names[k] for k in found.flat] != true.flat)
        for names, found in ((by_query, own_WC), (by_attended, label_WC))
    ]
    assert wrong[0] > 0.01 and wrong[1] == 0


def test_more_embeddings_than_are_compared_pairwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("separative.inference.cluster.MAX_COMPARED", 40)
    embed, seconds, true = simulate(3, 400, 0.08, seed=1)
    label_WC, mean_KE = cluster(embed, seconds, seconds, same_cosine=0.5)
    active = seconds > 0
    assert len(mean_KE) == 3
    assert len(set(zip(true[active].tolist(), label_WC[active].tolist(), strict=True))) == 3


def test_two_streams_of_a_window_are_two_speakers_unless_their_embeddings_are_equal() -> None:
    embed, seconds, _ = simulate(2, 60, 0.02, seed=2)
    seconds[:] = 3.0
    near = embed.copy()
    # The second stream moves towards the speaker of the first one, but remains different.
    near[0, 1] = 0.75 * near[0, 0] + 0.6 * near[0, 1]
    near[0, 1] /= np.linalg.norm(near[0, 1])
    label_WC, _ = cluster(near, seconds, seconds, same_cosine=0.95)
    assert label_WC[0, 0] != label_WC[0, 1]
    near[0, 1] = near[0, 0]
    label_WC, _ = cluster(near, seconds, seconds, same_cosine=0.95)
    assert label_WC[0, 0] == label_WC[0, 1]


def test_an_outlier_is_not_a_speaker_and_silence_has_none() -> None:
    embed, seconds, _ = simulate(2, 200, 0.05, seed=3)
    rng = np.random.default_rng(4)
    embed[7, 0] = rng.standard_normal(32)
    embed[7, 0] /= np.linalg.norm(embed[7, 0])
    label_WC, mean_KE = cluster(embed, seconds, seconds, same_cosine=0.5)
    assert len(mean_KE) == 2 and label_WC[7, 0] >= 0
    label_WC, mean_KE = cluster(embed, np.zeros_like(seconds), np.zeros_like(seconds), same_cosine=0.5)
    assert (label_WC == -1).all() and len(mean_KE) == 0


def test_a_single_short_stream_is_a_speaker() -> None:
    embed, seconds, _ = simulate(2, 1, 0.0)
    seconds[:] = [[0.3, 0.0]]
    label_WC, mean_KE = cluster(embed, seconds, seconds, same_cosine=0.5)
    assert label_WC.tolist() == [[0, -1]] and len(mean_KE) == 1


def test_a_large_common_component_does_not_merge_speakers() -> None:
    """All embeddings contain the same component, as from the acoustics of a room."""
    embed, seconds, true = simulate(3, 150, 0.06, seed=3)
    common_E = np.random.default_rng(9).standard_normal(32)
    shifted = embed + 0.8 * common_E / np.linalg.norm(common_E)
    shifted = (shifted / np.linalg.norm(shifted, axis=2, keepdims=True)).astype(np.float32)
    label_WC, mean_KE = cluster(shifted, seconds, seconds, same_cosine=0.95)
    active = seconds > 0
    assert len(mean_KE) == 3 and (mean_KE @ mean_KE.T).min() > 0.1
    assert len(set(zip(true[active].tolist(), label_WC[active].tolist(), strict=True))) == 3


def test_a_single_speaker_is_not_split() -> None:
    rng = np.random.default_rng(4)
    embed = np.eye(1, 64) + 0.08 * rng.standard_normal((200, 1, 64))
    embed /= np.linalg.norm(embed, axis=2, keepdims=True)
    seconds = np.full((200, 1), 2.0, np.float32)
    label_WC, mean_KE = cluster(embed.astype(np.float32), seconds, seconds, same_cosine=0.5)
    assert len(mean_KE) == 1 and (label_WC == 0).all()


@pytest.mark.parametrize(("different", "found"), [(1, 1), (4, 2)])
@pytest.mark.parametrize("windows", [12, 60])
def test_a_speaker_needs_more_than_one_window(windows: int, different: int, found: int) -> None:
    rng = np.random.default_rng(6)
    embed = np.eye(1, 32) + 0.05 * rng.standard_normal((windows, 1, 32))
    embed[5 : 5 + different, 0] = np.eye(32)[3] + 0.05 * rng.standard_normal((different, 32))
    embed = (embed / np.linalg.norm(embed, axis=2, keepdims=True)).astype(np.float32)
    seconds = np.full((windows, 1), 2.0, np.float32)
    assert len(cluster(embed, seconds, seconds, same_cosine=0.5)[1]) == found


@pytest.mark.parametrize("known", [False, True])
def test_a_speaker_with_little_speech_is_found(known: bool) -> None:
    embed, seconds, true = simulate(3, 300, 0.08, seed=5)
    rare = true[:, 0] == 2
    kept = ~(true == 2).any(1) | (np.cumsum(rare) <= 4) & rare
    embed, seconds, true = embed[kept, :1], seconds[kept, :1], true[kept, :1]
    assert (true == 2).sum() == 4 and len(true) > 80
    label_WC, mean_KE = cluster(embed, seconds, seconds, same_cosine=0.5, speakers=3 if known else None)
    assert len(mean_KE) == 3
    (label,) = set(label_WC[true == 2].tolist())
    assert (label_WC == label).sum() == 4


@pytest.mark.parametrize(("windows", "speakers"), [(120, 8), (300, 10), (3, 100), (1, 2)])
def test_asking_for_too_many_speakers_gives_fewer(windows: int, speakers: int) -> None:
    embed, seconds, _ = simulate(2, windows, 0.08)
    label_WC, mean_KE = cluster(embed, seconds, seconds, same_cosine=0.5, speakers=speakers)
    assert 1 <= len(mean_KE) <= speakers
    assert label_WC.max() == len(mean_KE) - 1


@pytest.mark.parametrize("known", [False, True])
def test_noise_takes_no_place_of_a_speaker(known: bool) -> None:
    """A third of the streams is noise with embeddings of its own; its evidence for speech is negative."""
    embed, seconds, true = simulate(3, 150, 0.06, seed=7)
    seconds[:] = 3.0
    evidence = np.where(true == 2, -1.0, 1.0)
    found = cluster_speakers(
        embed,
        seconds,
        seconds,
        same_cosine=0.5,
        limits=SpeakerLimits.of(2 if known else None),
        evidence=evidence,
    )
    assert len(found.mean) == 2 and found.count_probability.argmax() == 2
    assert (found.label[true == 2] == -1).all() and (found.label[true < 2] >= 0).all()
    nobody = cluster_speakers(embed, seconds, seconds, same_cosine=0.5, evidence=-np.ones_like(evidence))
    assert len(nobody.mean) == 0 and nobody.count_probability.tolist() == [1.0]


@pytest.mark.parametrize("speakers", [1, 2, 3, 5])
def test_the_number_of_speakers_has_a_probability(speakers: int) -> None:
    embed, seconds, _ = simulate(speakers + 1, 120, 0.08, seed=speakers)
    one = slice(None), slice(0, 1)
    keep = simulate(speakers + 1, 120, 0.08, seed=speakers)[2][:, 0] < speakers
    embed, seconds = embed[one][keep], seconds[one][keep]
    found = cluster_speakers(embed, seconds, seconds, same_cosine=0.5)
    assert found.count_probability.sum() == pytest.approx(1)
    assert found.count_probability.argmax() == speakers == len(found.mean)
    assert found.count_probability[speakers] > 0.5
    limits = SpeakerLimits.of(speakers)
    given = cluster_speakers(embed, seconds, seconds, same_cosine=0.5, limits=limits)
    np.testing.assert_array_equal(given.label, found.label)


def test_two_clusters_in_one_window_are_less_likely_one_speaker() -> None:
    rng = np.random.default_rng(0)
    embed = np.eye(1, 16) + 0.3 * rng.standard_normal((40, 2, 16))
    embed /= np.linalg.norm(embed, axis=2, keepdims=True)
    label = np.tile([0, 1], (40, 1))
    apart = label.copy()
    apart[::2, 0], apart[1::2, 1] = -1, -1
    ones = np.ones(label.shape)
    scores = [Merging(embed, x, ones, ones, 1.0).score[0] for x in (label, apart)]
    assert scores[0] < scores[1]


def test_a_given_number_limits_and_splits_no_speaker_of_a_short_recording() -> None:
    embed, seconds, _ = simulate(3, 12, 0.08)
    found = {k: len(cluster(embed, seconds, seconds, same_cosine=0.5, speakers=k)[1]) for k in (1, 2, 3, 6)}
    assert found == {1: 1, 2: 2, 3: 3, 6: 3}


@pytest.mark.parametrize(("windows", "found"), [(15, 2), (240, 3)])
def test_a_least_number_counts_more_in_long_recordings(windows: int, found: int) -> None:
    """The last two of three speakers are so similar that two are found. The number three helps if there is
    much speech."""
    rng = np.random.default_rng(2)
    speaker_KE = np.eye(3, 32)
    speaker_KE[2, 1] = 1.5
    speaker_KE /= np.linalg.norm(speaker_KE, axis=1, keepdims=True)
    true = np.arange(windows)[:, None] % 3
    embed = speaker_KE[true] + 0.15 * rng.standard_normal((windows, 1, 32))
    embed = (embed / np.linalg.norm(embed, axis=2, keepdims=True)).astype(np.float32)
    seconds = np.full((windows, 1), 2.0, np.float32)
    for limits, count in (
        (SpeakerLimits(), 2),
        (SpeakerLimits(least=3), found),
        (SpeakerLimits(3, 3), found),
    ):
        result = cluster_speakers(embed, seconds, seconds, same_cosine=0.5, limits=limits)
        assert len(result.mean) == count


def test_a_cluster_that_mixes_speakers_is_left_out_instead_of_merging_two_speakers() -> None:
    """The fifth cluster is similar to no speaker, the first two are similar to each other."""
    rng = np.random.default_rng(4)
    centre_KE = np.eye(5, 32)
    centre_KE[1, 0] = 0.5
    centre_KE /= np.linalg.norm(centre_KE, axis=1, keepdims=True)
    label = np.r_[np.repeat(np.arange(4), 40), np.full(12, 4)][:, None]
    embed = centre_KE[label] + 0.1 * rng.standard_normal((172, 1, 32))
    embed /= np.linalg.norm(embed, axis=2, keepdims=True)
    ones = np.ones(label.shape)
    mean_KE = Merging(embed, label, ones, ones, 1.0).means(SpeakerLimits.of(4))
    assert len(mean_KE) == 4 and (mean_KE @ centre_KE[:4].T).max(0).min() > 0.98


def test_limits_of_the_number_of_speakers() -> None:
    assert SpeakerLimits.of(3) == SpeakerLimits(3, 3) == SpeakerLimits.of(3, 2, 5)
    assert SpeakerLimits.of(None, 2) == SpeakerLimits(2, None)
    assert SpeakerLimits.of(None, None, 5) == SpeakerLimits(1, 5)
    for given, words in (
        ((0,), "speakers is 0; pass at least 1"),
        ((None, -1), "min_speakers is -1"),
        ((None, 4, 3), "min_speakers is 4 but max_speakers is 3; raise max_speakers or lower min_speakers"),
        ((5, None, 3), "speakers is 5 but max_speakers is 3"),
        ((2, 3), "min_speakers is 3 but speakers is 2"),
    ):
        with pytest.raises(SeparativeError, match=words):
            SpeakerLimits.of(*given)


def test_constants_of_counting_come_from_the_card(model) -> None:
    assert CountingRule.of(model) == CountingRule()
    for entry, words in (
        ({"merge_scale": -1}, "counting.*merge_scale"),
        ({"scale": 1}, "counting.*scale"),
        ([], "counting"),
    ):
        changed = SimpleNamespace(card={"counting": entry})
        with pytest.raises(ModelError, match=words):
            CountingRule.of(changed)
    own = SimpleNamespace(card={"counting": {"prior_odds": 0.2}})
    assert CountingRule.of(own) == CountingRule(prior_odds=0.2)


def test_the_eigengap_needs_more_than_a_few_embeddings() -> None:
    embed, _, true = simulate(4, 100, 0.08)
    assert eigengap_evidence(embed[:, 0]).argmax() == len(set(true[:, 0].tolist()))
    assert not eigengap_evidence(embed[:20, 0]).any()

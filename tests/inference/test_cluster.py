"""Who is who over many windows: speakers found, counted and told apart on embeddings made for it."""

import numpy as np
import pytest

from separative.inference.cluster import cluster_speakers


def drawn(speakers: int, windows: int, spread: float, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Windows of two streams, each a speaker's direction with noise; the second one speaks half the time."""
    rng = np.random.default_rng(seed)
    centre_KE = rng.standard_normal((speakers, 32))
    centre_KE /= np.linalg.norm(centre_KE, axis=1, keepdims=True)
    who_WC = np.stack([rng.permutation(speakers)[:2] for _ in range(windows)])
    embed_WCE = centre_KE[who_WC] + spread * rng.standard_normal((windows, 2, 32))
    embed_WCE /= np.linalg.norm(embed_WCE, axis=2, keepdims=True)
    seconds_WC = np.full((windows, 2), 3.0)
    seconds_WC[rng.random(windows) < 0.5, 1] = 0.0
    return embed_WCE.astype(np.float32), seconds_WC.astype(np.float32), who_WC


@pytest.mark.parametrize("speakers", [2, 3, 6])
@pytest.mark.parametrize("known", [False, True])
def test_speakers_are_counted_and_told_apart(speakers: int, known: bool) -> None:
    embed, seconds, who = drawn(speakers, 120, 0.08)
    label_WC, centre_KE = cluster_speakers(
        embed, seconds, seconds, same=0.5, speakers=speakers if known else None
    )
    assert len(centre_KE) == speakers
    heard = seconds > 0
    assert (label_WC[~heard] == -1).all()
    pairs = set(zip(who[heard].tolist(), label_WC[heard].tolist(), strict=True))
    assert len(pairs) == speakers


def test_few_windows_are_told_apart_by_their_cosines() -> None:
    embed, seconds, who = drawn(2, 5, 0.05)
    seconds[:] = 3.0
    label_WC, centre_KE = cluster_speakers(embed, seconds, np.zeros_like(seconds), same=0.5)
    assert len(centre_KE) == 2
    assert len(set(zip(who.flat, label_WC.flat, strict=True))) == 2


def test_who_is_there_is_judged_by_those_who_speak_alone() -> None:
    """Streams that speak together are drawn towards each other: a voice between the two is nobody's."""
    embed, seconds, _ = drawn(3, 200, 0.08, seed=3)
    between = embed.sum(1, keepdims=True) * np.float32(0.7)
    embed[100:] = (between / np.linalg.norm(between, axis=2, keepdims=True))[100:]
    seconds[100:] = 2.0
    alone = seconds.copy()
    alone[100:] = 0.0
    alone[:100][seconds[:100].min(1) > 0] = 0.0
    assert len(cluster_speakers(embed, seconds, alone, same=0.5)[1]) == 3
    assert len(cluster_speakers(embed, seconds, seconds, same=0.5)[1]) > 3


def test_answers_say_whose_a_stream_is_and_not_who_is_there() -> None:
    embed, seconds, who = drawn(3, 150, 0.08, seed=4)
    seconds[:] = 3.0
    # Some streams hardly know themselves whose they are; what answers them does.
    rng = np.random.default_rng(5)
    blurred = embed + 0.8 * rng.standard_normal(embed.shape).astype(np.float32) * (
        rng.random((150, 2, 1)) < 0.2
    )
    blurred /= np.linalg.norm(blurred, axis=2, keepdims=True)
    own_WC, own_KE = cluster_speakers(blurred, seconds, seconds, same=0.5, speakers=3)
    label_WC, centre_KE = cluster_speakers(
        blurred, seconds, seconds, same=0.5, speakers=3, attended_WCE=embed
    )
    assert len(own_KE) == len(centre_KE) == 3
    whose = {k: np.bincount(who[own_WC == k]).argmax() for k in range(3)}
    again = {k: np.bincount(who[label_WC == k]).argmax() for k in range(3)}
    assert set(whose.values()) == set(again.values()) == {0, 1, 2}
    wrong = [
        np.mean([names[k] for k in found.flat] != who.flat)
        for names, found in ((whose, own_WC), (again, label_WC))
    ]
    assert wrong[0] > 0.01 and wrong[1] == 0


def test_more_windows_than_are_compared_pairwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("separative.inference.cluster.MOST", 40)
    embed, seconds, who = drawn(3, 400, 0.08, seed=1)
    label_WC, centre_KE = cluster_speakers(embed, seconds, seconds, same=0.5)
    heard = seconds > 0
    assert len(centre_KE) == 3
    assert len(set(zip(who[heard].tolist(), label_WC[heard].tolist(), strict=True))) == 3


def test_two_streams_of_a_window_are_two_speakers_unless_they_sound_the_same() -> None:
    embed, seconds, _ = drawn(2, 60, 0.02, seed=2)
    seconds[:] = 3.0
    near = embed.copy()
    # A second stream that leans towards the first one's speaker, but is another voice.
    near[0, 1] = 0.75 * near[0, 0] + 0.6 * near[0, 1]
    near[0, 1] /= np.linalg.norm(near[0, 1])
    label_WC, _ = cluster_speakers(near, seconds, seconds, same=0.95)
    assert label_WC[0, 0] != label_WC[0, 1]
    near[0, 1] = near[0, 0]
    label_WC, _ = cluster_speakers(near, seconds, seconds, same=0.95)
    assert label_WC[0, 0] == label_WC[0, 1]


def test_outliers_are_no_speakers_and_silence_is_nobody() -> None:
    embed, seconds, _ = drawn(2, 200, 0.05, seed=3)
    rng = np.random.default_rng(4)
    embed[7, 0] = rng.standard_normal(32)
    embed[7, 0] /= np.linalg.norm(embed[7, 0])
    label_WC, centre_KE = cluster_speakers(embed, seconds, seconds, same=0.5)
    assert len(centre_KE) == 2 and label_WC[7, 0] >= 0
    label_WC, centre_KE = cluster_speakers(embed, np.zeros_like(seconds), np.zeros_like(seconds), same=0.5)
    assert (label_WC == -1).all() and len(centre_KE) == 0


def test_one_short_word_is_one_speaker() -> None:
    embed, seconds, _ = drawn(2, 1, 0.0)
    seconds[:] = [[0.3, 0.0]]
    label_WC, centre_KE = cluster_speakers(embed, seconds, seconds, same=0.5)
    assert label_WC.tolist() == [[0, -1]] and len(centre_KE) == 1


def test_what_all_have_in_common_is_not_what_tells_them_apart() -> None:
    """A room's colour on every embedding, larger than the speakers' own: they are still told apart."""
    embed, seconds, who = drawn(3, 150, 0.06, seed=3)
    room_E = np.random.default_rng(9).standard_normal(32)
    coloured = embed + 0.8 * room_E / np.linalg.norm(room_E)
    coloured = (coloured / np.linalg.norm(coloured, axis=2, keepdims=True)).astype(np.float32)
    label_WC, centre_KE = cluster_speakers(coloured, seconds, seconds, same=0.95)
    heard = seconds > 0
    assert len(centre_KE) == 3 and (centre_KE @ centre_KE.T).min() > 0.1
    assert len(set(zip(who[heard].tolist(), label_WC[heard].tolist(), strict=True))) == 3


def test_a_speaker_alone_does_not_fall_apart() -> None:
    rng = np.random.default_rng(4)
    embed = np.eye(1, 64) + 0.08 * rng.standard_normal((200, 1, 64))
    embed /= np.linalg.norm(embed, axis=2, keepdims=True)
    seconds = np.full((200, 1), 2.0, np.float32)
    label_WC, centre_KE = cluster_speakers(embed.astype(np.float32), seconds, seconds, same=0.5)
    assert len(centre_KE) == 1 and (label_WC == 0).all()


@pytest.mark.parametrize(("windows", "found"), [(12, 2), (60, 1)])
def test_a_voice_in_one_window_is_a_speaker_of_a_short_recording_only(windows: int, found: int) -> None:
    rng = np.random.default_rng(6)
    embed = np.eye(1, 32) + 0.05 * rng.standard_normal((windows, 1, 32))
    embed[5, 0] = np.eye(32)[3]
    embed = (embed / np.linalg.norm(embed, axis=2, keepdims=True)).astype(np.float32)
    seconds = np.full((windows, 1), 2.0, np.float32)
    assert len(cluster_speakers(embed, seconds, seconds, same=0.5)[1]) == found


@pytest.mark.parametrize("known", [False, True])
def test_a_speaker_who_says_little_is_one(known: bool) -> None:
    embed, seconds, who = drawn(3, 300, 0.08, seed=5)
    rare = who[:, 0] == 2
    kept = ~(who == 2).any(1) | (np.cumsum(rare) <= 4) & rare
    embed, seconds, who = embed[kept, :1], seconds[kept, :1], who[kept, :1]
    assert (who == 2).sum() == 4 and len(who) > 80
    label_WC, centre_KE = cluster_speakers(embed, seconds, seconds, same=0.5, speakers=3 if known else None)
    assert len(centre_KE) == 3
    (rarely,) = set(label_WC[who == 2].tolist())
    assert (label_WC == rarely).sum() == 4


@pytest.mark.parametrize(("windows", "speakers"), [(120, 8), (300, 10), (3, 100), (1, 2)])
def test_more_speakers_than_are_heard_are_not_found(windows: int, speakers: int) -> None:
    embed, seconds, _ = drawn(2, windows, 0.08)
    label_WC, centre_KE = cluster_speakers(embed, seconds, seconds, same=0.5, speakers=speakers)
    assert 1 <= len(centre_KE) <= speakers
    assert label_WC.max() == len(centre_KE) - 1

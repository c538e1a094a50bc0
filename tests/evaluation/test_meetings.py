"""Evaluation on conversations: each step on small constructed inputs, without a trained model."""

from dataclasses import replace

import numpy as np
import pytest

from separative.corpora.manifest import Corpus
from separative.errors import CorpusError, SeparativeError
from separative.evaluation.bootstrap import SpeakerBootstrap
from separative.evaluation.meeting_rows import ConversationFigures, meeting_rows
from separative.evaluation.meetings import (
    ENROL_SECONDS,
    FRAME,
    Enrolment,
    _diarization_figures,
    _improvements,
    _matches,
    _reserve,
    _window_scores,
    _window_speakers,
    evaluate_meetings,
)
from separative.inference.diarize import Diarization
from separative.inference.speakers import Speaker
from separative.inference.windows import WindowGrid, WindowOutputs
from separative.metrics import DiarizationError, si_sdr
from separative.rttm import Turn

RATE = 1000
EXACT = 1e-9
ROUNDING = 1e-5


def frames(*spans: tuple[float, float], seconds: float = 4.0) -> np.ndarray:
    """Activity [T] of a speaker who speaks in the given spans of seconds."""
    active_T = np.zeros(round(seconds / FRAME), bool)
    for start, end in spans:
        active_T[round(start / FRAME) : round(end / FRAME)] = True
    return active_T


def windows(activity_WCS: np.ndarray, query_WCE: np.ndarray | None = None) -> WindowOutputs:
    """Windows of 4 segments of 0.1 s, one every 2 segments."""
    count, streams, segments = activity_WCS.shape
    query_WCE = np.zeros((count, streams, 2), np.float32) if query_WCE is None else query_WCE
    memory_ME = np.zeros((1, query_WCE.shape[-1]), np.float32)
    grid = WindowGrid(segment=RATE // 10, lead=0, window=segments, hop=2)
    level_WS = np.zeros((count, segments), np.float32)
    return WindowOutputs(grid, activity_WCS, query_WCE, memory_ME, np.zeros(1), level_WS, samples=4 * RATE)


def diarization(speakers: dict[str, tuple[list[tuple[float, float]], list[float]]]) -> Diarization:
    """A diarization of 4 s with the spans and the embedding of each found speaker."""
    return Diarization(
        name="the waveform",
        source=(np.zeros(4 * RATE, np.float32), RATE),
        rate=RATE,
        seconds=4.0,
        channels=1,
        channel_policy="mean",
        segment_seconds=0.1,
        speakers=tuple(
            Speaker(
                name,
                tuple(Turn(name, start, end) for start, end in spans),
                np.array(embedding, np.float32),
                np.zeros(40, np.float32),
            )
            for name, (spans, embedding) in speakers.items()
        ),
        windows=windows(np.zeros((1, 2, 4), np.float32)),
        window_speaker=np.full((1, 2), -1),
    )


def test_enrolment_gets_four_seconds_but_at_most_half_of_the_utterances(speech):
    long = Corpus(tuple(replace(u, seconds=3.0) for u in speech))
    for corpus, expected in ((long, 2), (speech, 4)):
        reserved, rest = _reserve(corpus)
        assert set(reserved) == set(corpus.speakers) - {"one/lonely"}
        assert {len(utterances) for utterances in reserved.values()} == {expected}
        used = {u.id for utterances in reserved.values() for u in utterances}
        assert used.isdisjoint(u.id for u in rest)
        assert used | {u.id for u in rest} == {u.id for u in corpus} - {"lonely"}
    assert sum(u.seconds for u in _reserve(long)[0]["one/speaker 0"]) >= ENROL_SECONDS


def test_a_window_stream_belongs_to_the_speaker_who_speaks_most_while_it_is_active():
    # Speaker 0 speaks from 0 to 0.4 s, speaker 1 from 0.2 to 0.8 s; windows begin at 0, 0.2 and 0.4 s.
    reference_KT = np.stack([frames((0.0, 0.4)), frames((0.2, 0.8))])
    activity_WCS = np.array(
        [
            [[1, 1, 1, 1], [0, 0, 1, 1]],  # 4 segments of speaker 0; 2 of both speakers, the first one wins
            [[0, 0, 1, 1], [1, 1, 1, 1]],  # 2 segments of speaker 1; 4 of speaker 1, 2 of speaker 0
            [[0, 0, 0, 1], [0, 0, 0, 0]],  # active for less than half of the window
        ],
        np.float32,
    )
    found_WC = _window_speakers(windows(activity_WCS), RATE, reference_KT)
    assert found_WC.tolist() == [[0, 0], [1, 1], [-1, -1]]


def test_a_window_stream_that_is_active_while_no_speaker_speaks_has_no_speaker():
    reference_KT = np.stack([frames((3.0, 4.0)), frames()])
    found_WC = _window_speakers(windows(np.ones((2, 1, 4), np.float32)), RATE, reference_KT)
    assert found_WC.tolist() == [[-1], [-1]]


def test_segments_beyond_the_recording_do_not_count():
    # The last frame is speech. Segments after the end must not be read as that frame.
    reference_KT = frames((0.19, 0.2), seconds=0.2)[None]
    found_WC = _window_speakers(windows(np.ones((2, 1, 4), np.float32)), RATE, reference_KT)
    assert found_WC.tolist() == [[-1], [-1]]


def test_window_scores_compare_every_known_stream_with_every_enrolled_speaker():
    query_WCE = np.array([[[1, 0], [0, 1]], [[0.6, 0.8], [1, 0]]], np.float32)
    outputs = windows(np.ones((2, 2, 4), np.float32), query_WCE)
    speaker_WC = np.array([[0, 1], [1, -1]])
    enrolled = {"ann": np.array([1, 0], np.float32), "bob": np.array([0, 1], np.float32)}
    names = np.array(["ann", "bob"])
    scores = _window_scores(None, outputs, speaker_WC, names, enrolled, attention=False)
    assert [target for _, target in scores] == [True, False, False, False, True, True]
    assert [score for score, _ in scores] == pytest.approx([1, 0, 0.6, 0, 1, 0.8], abs=ROUNDING)
    assert _window_scores(None, outputs, np.full((2, 2), -1), names, enrolled, attention=False) == []


def test_a_correct_diarization_has_no_errors():
    reference_KT = np.stack([frames((0, 2)), frames((2, 4))])
    result = diarization({"speaker1": ([(2, 4)], [1, 0]), "speaker2": ([(0, 2)], [0, 1])})
    enrolled = {"ann": np.array([0, 1], np.float32), "eve": np.array([-0.6, -0.8], np.float32)}
    figures = _diarization_figures(result, reference_KT, {"ann", "bob"}, enrolled)
    assert figures.error.rate == figures.jaccard == figures.swaps == 0
    assert figures.error.total == pytest.approx(4.0)
    assert (figures.found, figures.present) == (2, 2)
    # The score of an enrolled speaker is that of the most similar found speaker.
    assert [target for _, target in figures.scores] == [True, False]
    assert [score for score, _ in figures.scores] == pytest.approx([1.0, -0.6], abs=ROUNDING)


def test_misses_false_alarms_confusion_and_swaps_are_counted():
    # The first found speaker changes from speaker 0 to speaker 1 at 2 s; 3.5 to 4 s of speech are missed.
    reference_KT = np.stack([frames((0, 2)), frames((2, 4))])
    result = diarization({"speaker1": ([(0, 3.5)], [1, 0])})
    figures = _diarization_figures(result, reference_KT, {"ann", "bob"}, {})
    assert figures.error.missed == pytest.approx(0.5)
    assert figures.error.confusion == pytest.approx(1.5)
    assert figures.error.false_alarm == 0
    assert figures.swaps == 1
    assert (figures.found, figures.present) == (1, 2)


def test_without_found_speakers_all_speech_is_missed_and_scores_are_lowest():
    reference_KT = frames((0, 4))[None]
    figures = _diarization_figures(
        diarization({}), reference_KT, {"ann"}, {"ann": np.array([1, 0], np.float32)}
    )
    assert figures.error.missed == pytest.approx(4.0)
    assert figures.found == 0
    assert figures.scores == [(-1.0, True)]


def test_speakers_are_matched_by_the_time_they_are_active_together():
    reference_KT = np.stack([frames((0, 1)), frames((1, 2)), frames((2, 4))])
    found_CT = np.stack([frames((2, 4)), frames((0.5, 1))])
    assert _matches(reference_KT, found_CT) == {0: 1, 2: 0}


def test_the_improvement_of_a_speaker_who_was_not_found_is_zero():
    rng = np.random.default_rng(0)
    source_KN = rng.standard_normal((3, 4000)).astype(np.float32)
    mix_N = source_KN.sum(0)
    estimate_CN = source_KN[[1, 0]] + 0.1 * rng.standard_normal((2, 4000)).astype(np.float32)
    found = _improvements(mix_N, source_KN, estimate_CN, {0: 1}, np.array([0, 2]))
    expected = si_sdr(estimate_CN[1], source_KN[0]) - si_sdr(mix_N, source_KN[0])
    assert found == pytest.approx([expected, 0.0], abs=ROUNDING)
    assert found[0] > 20


def test_enrolled_speakers_are_those_of_the_corpus_of_the_conversation():
    one = np.ones(1, np.float32)
    enrolment = Enrolment({"a": one, "b": one, "c": one}, {"a": "x", "b": "y", "c": "x"})
    assert list(enrolment.within("x")) == ["a", "c"]


def figures(missed: float, found: int, score: float, **options) -> ConversationFigures:
    """Figures of a conversation with 10 s of speech, two speakers, and a target and a non-target trial."""
    trials = [(score, True), (0.5, False)]
    error = DiarizationError(10.0, missed, 0.0, 0.0)
    return ConversationFigures(
        error, missed / 20, 1, found, 2, scores=trials, window_scores=trials, **options
    )


@pytest.fixture
def rows():
    by_variant = {
        "csc": [figures(1.0, 2, 0.9, improvements=[8.0, 10.0]), figures(3.0, 4, 0.8, improvements=[6.0])],
        "csc, other": [figures(2.0, 2, 0.4), figures(4.0, 2, 0.9)],
    }
    bootstrap = SpeakerBootstrap(["0", "1"], resamples=50, seed=0)
    rows = list(meeting_rows({"2 speakers, 0%": by_variant}, bootstrap, seed=7))
    return {(row.model, row.metric): row for row in rows}


@pytest.mark.parametrize(
    ("metric", "value", "other"),
    [
        ("DER", 20.0, 30.0),
        ("missed", 20.0, 30.0),
        ("confusion", 0.0, 0.0),
        ("JER", 10.0, 15.0),
        ("swaps", 1.0, 1.0),
        ("miscounted", 1.0, 0.0),
        ("count right", 50.0, 100.0),
        ("EER", 0.0, 100 / 3),
        ("window EER", 0.0, 100 / 3),
    ],
)
def test_rows_have_the_mean_of_the_conversations(rows, metric, value, other):
    assert rows["csc", metric].value == pytest.approx(value)
    # EER of the other variant: one of two targets is below both non-targets. The hull from (false alarms 0,
    # misses 1/2) to (1, 0) crosses equal errors at 1/3.
    assert rows["csc, other", metric].value == pytest.approx(other)
    row = rows["csc", metric]
    assert (row.condition, row.corpus, row.seed) == ("2 speakers, 0%", "all", 7)
    assert row.low <= row.value + EXACT and row.value <= row.high + EXACT
    assert row.trials == (4 if "EER" in metric else 2)


def test_separation_has_a_row_only_where_it_was_measured(rows):
    assert rows["csc", "SI-SDRi"].value == pytest.approx((9.0 + 6.0) / 2)
    assert ("csc, other", "SI-SDRi") not in rows


def test_differences_to_the_first_variant_are_paired(rows):
    row = rows["csc, other", "DER difference"]
    # Both conversations differ by exactly 10 points, so the paired interval has no width.
    assert (row.value, row.low, row.high) == pytest.approx((10.0, 10.0, 10.0))
    assert rows["csc, other", "window EER difference"].value == rows["csc, other", "window EER"].value
    assert ("csc", "DER difference") not in rows and ("csc", "window EER difference") not in rows


def test_there_is_no_equal_error_rate_without_target_and_non_target_trials():
    only_targets = [replace(figures(1.0, 2, 0.9), scores=[(0.9, True)], window_scores=[])] * 2
    bootstrap = SpeakerBootstrap(["0", "1"], resamples=5, seed=0)
    metrics = {row.metric for row in meeting_rows({"c": {"csc": only_targets}}, bootstrap, seed=0)}
    assert "DER" in metrics
    assert metrics.isdisjoint({"EER", "window EER"})


def test_training_speakers_and_invalid_settings_raise_an_error(model, speech, monkeypatch):
    with pytest.raises(SeparativeError, match="overlap"):
        evaluate_meetings(model, speech, overlaps=[1.5], count=1, seconds=10.0)
    monkeypatch.setattr(model, "card", {"data": {"speaker_count": 1, "speakers": ["one/speaker 2"]}})
    with pytest.raises(CorpusError, match="speaker 'one/speaker 2' is in training"):
        evaluate_meetings(model, speech)

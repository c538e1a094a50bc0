"""Transcripts: every input is read, words get the right speakers, segments are split, files are read back."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from transcript_helpers import place_words

from separative.corpora import load_corpus, synthesize_corpus
from separative.errors import SeparativeError
from separative.inference import (
    TranscriptSegment,
    TranscriptWord,
    add_speakers,
    read_transcript,
    write_transcript,
)
from separative.inference.word_speakers import assign_words
from separative.mixtures import ConversationConfig, ConversationSimulator
from separative.rttm import Turn

TURNS = [Turn("ann", 0.0, 3.0), Turn("bob", 3.0, 6.0)]


@pytest.fixture(scope="module")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], list[list[Turn]]]:
    folder = tmp_path_factory.mktemp("conversations")
    synthesize_corpus(folder / "speech", speakers=5, utterances=6, dev_speakers=2, seed=2)
    corpus = load_corpus(folder / "speech")

    def draw(overlap: float) -> list[list[Turn]]:
        config = ConversationConfig(seconds=90.0, speakers=3, overlap=overlap, turn_seconds=(1.0, 4.0))
        simulator = ConversationSimulator(corpus, config, seed=3, cache=folder / "cache")
        return [simulator.conversation(number).speech_turns() for number in range(3)]

    return draw


@pytest.mark.parametrize(("overlap", "least"), [(0.0, 0.99), (0.2, 0.95)])
def test_words_of_simulated_conversations_get_their_speakers(
    conversations: Callable[[float], list[list[Turn]]], overlap: float, least: float
) -> None:
    right = total = overlapped = 0
    for seed, turns in enumerate(conversations(overlap)):
        words = place_words(turns, seed)
        # The words of all speakers in one list, without segments that would tell speakers apart.
        found = assign_words([word[:2] for word in words], turns)
        right += sum(name == word[2] for name, word in zip(found, words, strict=True))
        total += len(words)
        overlapped += sum(sum(t.start < w[1] and w[0] < t.end for t in turns) > 1 for w in words)
    assert total > 300 and (overlapped > 0.2 * total) == (overlap > 0)
    assert right >= least * total, (right, total, overlapped)


def test_segments_are_split_where_the_speaker_changes_with_their_own_text() -> None:
    texts = [" Well,", " hello.", " Hi", " there!", " You", " too."]
    words = tuple(TranscriptWord(text, 1.0 * i, i + 0.8) for i, text in enumerate(texts))
    [first, second] = add_speakers(
        [TranscriptSegment(0.0, 6.0, "Well, hello. Hi there! You too.", words)], TURNS
    )
    assert (first.speaker, first.text, first.start, first.end) == ("ann", "Well, hello. Hi", 0.0, 2.8)
    assert (second.speaker, second.text, second.start, second.end) == ("bob", "there! You too.", 3.0, 5.8)
    assert [word.speaker for word in (*first.words, *second.words)] == ["ann"] * 3 + ["bob"] * 3


def test_text_without_spaces_is_split_without_spaces() -> None:
    words = tuple(TranscriptWord(text, 2.0 * i, 2.0 * i + 1) for i, text in enumerate("你好吗"))
    found = add_speakers([TranscriptSegment(0.0, 5.0, "你好，吗", words)], TURNS)
    assert [(s.speaker, s.text) for s in found] == [("ann", "你好，"), ("bob", "吗")]


def test_segments_without_word_times_get_the_speaker_of_most_of_their_time() -> None:
    segments = [TranscriptSegment(0.0, 2.0, "a"), TranscriptSegment(2.0, 5.0, "b")]
    assert [s.speaker for s in add_speakers(segments, TURNS)] == ["ann", "bob"]
    assert [s.text for s in add_speakers(segments, TURNS)] == ["a", "b"]


def test_words_far_from_speech_and_past_the_end(caplog: pytest.LogCaptureFixture) -> None:
    segments = [TranscriptSegment(start, start + 0.5, "x") for start in (6.5, 8.5, 12.0)]
    with caplog.at_level(logging.WARNING):
        found = add_speakers(segments, TURNS, seconds=10.0)
    assert [segment.speaker for segment in found] == ["bob", None, None]
    assert "1 of 3 words or segments of the transcript start after the end" in caplog.text
    assert [s.speaker for s in add_speakers(segments, [])] == [None] * 3
    assert add_speakers([], TURNS) == []


def test_in_an_overlap_the_exclusive_turns_decide() -> None:
    turns = [Turn("ann", 0.0, 10.0), Turn("bob", 0.0, 10.0)]
    words = [(0.5 * i, 0.5 * i + 0.4) for i in range(20)]
    exclusive = [Turn("bob", 0.0, 5.0), Turn("ann", 5.0, 10.0)]
    assert assign_words(words, turns, exclusive) == ["bob"] * 10 + ["ann"] * 10


def whisper(tmp_path: Path, content: object) -> list[TranscriptSegment]:
    path = tmp_path / "talk.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return read_transcript(path)


def test_json_of_four_programs_is_read(tmp_path: Path) -> None:
    words = [{"word": " Hello", "start": 0.5, "end": 0.9}, {"word": " Ann.", "start": 1.0, "end": 1.4}]
    segment = {"id": 0, "start": 0.4, "end": 1.5, "text": " Hello Ann."}
    expected = [("Hello Ann.", 0.4, 1.5, [(" Hello", 0.5, 0.9), (" Ann.", 1.0, 1.4)])]
    programs = {
        "Whisper": {"text": " Hello Ann.", "segments": [segment | {"words": words}], "language": "en"},
        "whisperX": {"segments": [segment | {"words": words}], "word_segments": words},
        "OpenAI API": {"task": "transcribe", "segments": [segment], "words": words},
    }
    for name, content in programs.items():
        found = whisper(tmp_path, content)
        shown = [(s.text, s.start, s.end, [(w.text, w.start, w.end) for w in s.words]) for s in found]
        assert shown == expected, name
    cpp = {"transcription": [{"offsets": {"from": 400, "to": 1500}, "text": " Hello Ann."}]}
    assert whisper(tmp_path, cpp) == [TranscriptSegment(0.4, 1.5, "Hello Ann.")]
    [alone] = whisper(tmp_path, {"text": "Hello Ann.", "words": words})
    assert (alone.start, alone.end, len(alone.words)) == (0.5, 1.4, 2)


def test_words_without_times_are_placed_between_their_neighbours(tmp_path: Path) -> None:
    words = [{"word": "in"}, {"word": "a", "start": 1.0, "end": 2.0}, {"word": "2014"}, {"word": "or"}]
    words += [{"word": "b", "start": 5.0, "end": 6.0}, {"word": "end"}]
    [segment] = whisper(tmp_path, {"segments": [{"start": 0.0, "end": 8.0, "text": "x", "words": words}]})
    assert [(w.start, w.end) for w in segment.words] == [(0, 1), (1, 2), (2, 4), (4, 5), (5, 6), (6, 8)]


def test_segments_whose_words_have_no_times_are_kept_whole(tmp_path: Path) -> None:
    words = [{"word": "hello"}, {"word": "ann", "start": None, "end": "1"}]
    [segment] = whisper(tmp_path, [{"start": 0.0, "end": 1.0, "text": "hello ann", "words": words}])
    assert segment == TranscriptSegment(0.0, 1.0, "hello ann")


def test_subtitles_are_read(tmp_path: Path) -> None:
    srt = "\ufeff1\r\n00:00:01,500 --> 00:00:02,000\r\n<i>Hello</i> 3 < 4\r\nthere\r\n\r\n"
    srt += "2\r\n01:00:00,000 --> 01:00:01,5\r\nBye\r\n"
    (tmp_path / "a.srt").write_text(srt, encoding="utf-8", newline="")
    assert [(s.start, s.end, s.text) for s in read_transcript(tmp_path / "a.srt")] == [
        (1.5, 2.0, "Hello 3 < 4 there"),
        (3600.0, 3601.5, "Bye"),
    ]
    vtt = "WEBVTT - talk\n\nNOTE\nnot text\n\nintro\n00:01.000 --> 00:02.500 align:start\n"
    vtt += "<v Ann>R&amp;D &lt;3\n\n"
    vtt += "00:03.000 --> 00:05.000\nOne<00:00:03.500><c> two</c><00:00:04.000> three\n"
    (tmp_path / "a.vtt").write_text(vtt, encoding="utf-8")
    first, second = read_transcript(tmp_path / "a.vtt")
    assert (first.start, first.end, first.text, first.words) == (1.0, 2.5, "R&D <3", ())
    assert second.text == "One two three"
    spoken = [(w.text, w.start, w.end) for w in second.words]
    assert spoken == [("One", 3.0, 3.5), ("two", 3.5, 4.0), ("three", 4.0, 5.0)]


@pytest.mark.parametrize("suffix", [".json", ".srt", ".vtt"])
def test_a_written_transcript_is_read_back(tmp_path: Path, suffix: str) -> None:
    segments = [
        TranscriptSegment(0.5, 2.0, "Hello & <welcome>", (TranscriptWord("Hello", 0.5, 1.0, "ann"),), "ann"),
        TranscriptSegment(2.25, 3.5, "who?", (), None),
    ]
    found = read_transcript(write_transcript(segments, tmp_path / f"a{suffix}"))
    assert [(s.start, s.end) for s in found] == [(0.5, 2.0), (2.25, 3.5)]
    prefix = "ann: " if suffix == ".srt" else ""
    assert [s.text for s in found] == [f"{prefix}Hello & <welcome>", "who?"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.json",
            '{"segments": [{"text": "a", "words": [{"word": "a"}]}]}',
            "neither the segment nor its words",
        ),
        ("a.json", '{"segments": [{"start": 2.0, "end": 1.0, "text": "hello"}]}', "segment 1: neither"),
        ("a.json", '{"text": "hello"}', "no list 'segments'"),
        ("a.json", '{"segments": ["hello"]}', "no list 'segments'"),
        ("a.json", "[1, 2", "a.json"),
        ("a.srt", "1\n00:00:01 -> 00:00:02\nhello\n", "has no cues with times"),
        ("a.srt", "1\n00:00:02,000 --> 00:00:01,000\nhello\n", "line 2: '00:00:02,000"),
        ("a.vtt", "WEBVTT\n\nsoon --> later\nhello\n", "line 3: 'soon --> later' is not the time of a cue"),
        ("a.docx", "hello", "unknown suffix"),
    ],
)
def test_transcripts_without_times_are_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SeparativeError) as error:
        read_transcript(tmp_path / name)
    assert message in str(error.value) and name in str(error.value)

"""Results in a notebook: texts, pages with players, figures, and objects of other packages."""

import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from separative import audio
from separative.inference import Diarization, Recording, diarize, embed, separate
from separative.inference.exclusive import exclusive_turns
from separative.model import SeparativeEncoder


@pytest.fixture(scope="module")
def diarization(model: SeparativeEncoder, tmp_path_factory: pytest.TempPathFactory) -> Diarization:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("views") / "talk.wav"
    audio.write(path, 0.1 * rng.standard_normal(6 * model.rate).astype(np.float32), model.rate)
    return diarize(model, path, speakers=2)


@pytest.fixture(scope="module")
def recording(model: SeparativeEncoder, record: Callable[..., Path]) -> Recording:
    return separate(model, record("views.wav", 2.0, 1))


def page_of(html: str) -> str:
    """The page in the frame that a notebook shows."""
    (page,) = re.findall(r'^<iframe [^>]*srcdoc="([^"]*)"></iframe>$', html)
    return unescape(page)


def data_of(page: str) -> dict[str, Any]:
    """What the player on the page shows."""
    (content,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(content)


def test_texts_are_short(diarization: Diarization, recording: Recording) -> None:
    count, turns = len(diarization.speakers), len(diarization.turns)
    assert count >= 1
    assert re.fullmatch(
        rf"Diarization\('.*talk.wav', 6.0 s, {count} speakers?, {turns} turns?\)", repr(diarization)
    )
    assert repr(diarization.speakers[0]).startswith("Speaker('speaker1', ")
    assert repr(recording).endswith(f"views.wav', 2.0 s, {len(recording.speakers)} speakers)")
    assert (
        repr(recording.streams[0]) == f"Stream({recording.streams[0].stream}, 2.0 s of speech, audible=True)"
    )


def test_the_page_of_a_diarization_plays_the_recording_and_shows_all_turns(diarization: Diarization) -> None:
    page = page_of(diarization._repr_html_())
    data = data_of(page)
    assert data["audio"].startswith("data:audio/mpeg;base64,") and data["lane"]
    assert sum(len(speaker["turns"]) for speaker in data["speakers"]) == len(diarization.turns)
    assert not any(speaker["audio"] for speaker in data["speakers"])


def test_a_recording_that_is_gone_or_long_has_a_page_without_player(
    diarization: Diarization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    gone = page_of(replace(diarization, source=tmp_path / "gone.wav")._repr_html_())
    monkeypatch.setattr("separative.inference.timeline.EMBED_SECONDS", 5.0)
    for page in (gone, page_of(diarization._repr_html_())):
        data = data_of(page)
        assert data["audio"] == "" and data["peaks"] == []
        assert sum(len(speaker["turns"]) for speaker in data["speakers"]) == len(diarization.turns)


def test_the_page_of_separated_speech_plays_every_speaker(
    model: SeparativeEncoder, recording: Recording, record: Callable[..., Path]
) -> None:
    assert len(recording.speakers) == 2
    assert page_of(recording._repr_html_()).count("data:audio/mpeg;base64,") == 2
    embedded = embed(model, record("views.wav", 2.0, 1))
    assert "data:audio" not in page_of(embedded._repr_html_())


def test_names_are_escaped_in_the_page(diarization: Diarization) -> None:
    from dataclasses import replace

    speaker = replace(diarization.speakers[0], name='<script>"&')
    page = page_of(replace(diarization, speakers=(speaker,))._repr_html_())
    assert '<script>"' not in page and data_of(page)["speakers"][0]["name"] == '<script>"&'


def test_plot_draws_on_given_axes_and_on_new_ones(diarization: Diarization, recording: Recording) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    from matplotlib.figure import Figure

    given = Figure().add_subplot()
    assert diarization.plot(given) is given
    bars = [path for bar in given.collections for path in bar.get_paths()]
    assert len(bars) == len(diarization.turns)
    axes = recording.plot()
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        f"stream {stream.stream}" for stream in recording.speakers
    ]
    pyplot.close(axes.figure)


def test_annotation_table_and_supervisions_have_the_turns(diarization: Diarization) -> None:
    for exclusive, turns in ((False, diarization.turns), (True, exclusive_turns(diarization))):
        expected = sorted((turn.start, turn.end, turn.speaker) for turn in turns)
        annotation = diarization.to_annotation(exclusive=exclusive)
        assert annotation.uri == "talk"
        tracks = annotation.itertracks(yield_label=True)
        found = sorted((segment.start, segment.end, label) for segment, _, label in tracks)
        assert found == expected
        table = diarization.to_pandas(exclusive=exclusive)
        rows = zip(table["start"], table["end"], table["speaker"], strict=True)
        assert sorted(rows) == expected
        supervisions = diarization.to_supervisions(exclusive=exclusive)
        # Lhotse rounds the end of a supervision.
        found = sorted((s.start, s.end, s.speaker) for s in supervisions)
        assert [who for *_, who in found] == [who for *_, who in expected]
        assert np.allclose([times for *times, _ in found], [times for *times, _ in expected], atol=1e-6)
        assert {s.recording_id for s in supervisions} == {"talk"}


def test_a_recording_without_speakers_has_empty_views(diarization: Diarization) -> None:
    from dataclasses import replace

    nobody = replace(diarization, speakers=())
    assert repr(nobody).endswith("0 speakers, 0 turns)")
    assert len(nobody.to_pandas()) == len(nobody.to_annotation()) == len(nobody.to_supervisions()) == 0
    assert data_of(page_of(nobody._repr_html_()))["speakers"] == []

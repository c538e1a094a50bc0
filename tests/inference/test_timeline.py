"""The timeline of a recording: lanes, overlap, embedded or linked audio, and escaped names."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from separative import audio
from separative.inference.timeline import write_picture, write_timeline

RATE = 8000


def data_of(page: str) -> dict:
    """What the player on a page shows."""
    (content,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(content)


@pytest.fixture
def diarized(tmp_path: Path) -> tuple[dict, Path, list[Path]]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.wav" for name in ("mix#1", "one", "two")]
    for path in paths:
        audio.write(path, 0.1 * rng.standard_normal(10 * RATE).astype(np.float32), RATE)
    record = {
        "recording": "<b>mix</b>",
        "seconds": 10.0,
        "speakers": [
            {"name": "speaker1", "speech_seconds": 6.0, "turns": [[0.0, 4.0], [5.0, 7.0]]},
            {
                "name": "speaker2",
                "speech_seconds": 3.0,
                "turns": [[3.0, 6.0]],
                "matches": [{"name": "<i>Ann</i>", "score": 0.7, "llr": 2.0, "probability": 0.88}],
            },
        ],
    }
    return record, paths[0], paths[1:]


def test_lanes_turns_and_overlap_are_drawn(diarized: tuple, tmp_path: Path) -> None:
    page = write_timeline(tmp_path / "page.html", *diarized).read_text()
    data = data_of(page)
    assert [speaker["turns"] for speaker in data["speakers"]] == [[[0, 4], [5, 7]], [[3, 6]]]
    assert len(data["peaks"]) == pytest.approx(1600, rel=0.01) and 0.1 < max(data["peaks"]) < 1
    # Two speakers speak in 2 of 7 seconds of speech.
    assert "29% of the speech overlaps" in page
    assert page.count("data:audio/mpeg;base64,") == 3
    assert "<b>mix" not in page and "<i>Ann" not in page
    assert data["speakers"][1]["facts"].endswith("best match: <i>Ann</i>, 88%")


def test_long_recordings_are_linked(diarized: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("separative.inference.timeline.EMBED_SECONDS", 5.0)
    page = write_timeline(tmp_path / "page.html", *diarized).read_text()
    data = data_of(page)
    urls = [data["audio"], *(speaker["audio"] for speaker in data["speakers"])]
    assert urls == ["mix%231.wav", "one.wav", "two.wav"]
    far = write_timeline(tmp_path / "elsewhere" / "page.html", *diarized).read_text()
    assert f"{(tmp_path / 'one.wav').as_uri()}" in far


def test_picture_shows_lanes_and_overlap(diarized: tuple, tmp_path: Path) -> None:
    from matplotlib.image import imread

    record = diarized[0] | {"speakers": diarized[0]["speakers"]}
    picture = imread(write_picture(tmp_path / "p.png", record))[..., :3]
    colours = {tuple(np.round(255 * pixel).astype(int)) for pixel in picture.reshape(-1, 3)}
    # The two lanes have different colours.
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colours
    text = write_picture(tmp_path / "p.svg", record).read_text()
    assert "<svg" in text
    empty = write_picture(tmp_path / "none.png", record | {"speakers": []})
    assert empty.stat().st_size > 0


@pytest.mark.parametrize("name", ["李小龙 😀", "A$AP $x$", "n" * 300])
def test_a_picture_takes_any_name(tmp_path: Path, name: str) -> None:
    record = {"seconds": 2.0, "speakers": [{"name": name, "turns": [[0.0, 1.0]]}]}
    assert write_picture(tmp_path / "names.png", record).stat().st_size > 1000

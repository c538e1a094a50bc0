"""The report is one self-contained file that shows the given results and plays the given recordings."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile

from separative.errors import SeparativeError
from separative.evaluation import Results, Row
from separative.report import Sample, write_report
from separative.report.figures import (
    curve_panels,
    curves_figure,
    find_log,
    read_curves,
    running_mean,
    spectrogram_db,
)

STEP = 2**-15


class Page(HTMLParser):
    """The URLs that a browser would load, and the text that it would show."""

    def __init__(self, html):
        super().__init__()
        self.links, self.tags, self.text = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def results(tmp_path):
    rows = (
        Row("csc <b>", "clean", "EER", 8.0, 6.0, 11.0, 100, "all", 0),
        Row("csc <b>", "overlap0", "EER", 20.5, 15.0, 25.0, 90, "all", 0),
        Row("untrained", "overlap0", "EER", 44.4, 40.0, 48.0, 90, "all", 0),
        Row("csc <b>", "overlap0", "SI-SDRi", 5.1, 4.0, 6.0, 60, "all", 0),
        Row("csc <b>", "overlap0", "MI", 2.2, 2.0, 2.4, 60, "all", 0),
    )
    Results(rows, {"speakers": 35, "split": "dev", "mi_ceiling": 3.5553}).save(tmp_path / "eval")
    return tmp_path / "eval"


@pytest.fixture
def log(tmp_path):
    lines = [
        {"step": s, "minutes": s / 10, "loss": 7 - s / 50, "csc_query": 6.0, "lr": 1e-3} for s in range(100)
    ]
    lines.insert(50, {"step": 50, "minutes": 5.0, "valid/csc_query": 5.5, "note": "half", "ok": True})
    path = tmp_path / "run" / "log.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def samples():
    time = np.arange(8000) / 8000
    tone = np.sin(2 * np.pi * 1000 * time).astype(np.float32)
    return [Sample("mixture & all", 2 * tone, 8000), Sample("speaker 1", 0.5 * tone, 8000)]


def test_page_embeds_everything_and_loads_nothing(results, log, samples, tmp_path):
    path = write_report(tmp_path / "out" / "r.html", results=results, run=log.parent, samples=samples)
    html = path.read_text()
    page = Page(html)
    assert page.links
    assert all(link.startswith("data:") for link in page.links)
    assert not re.search(r"https?://|@import|url\(", html)
    assert {"script", "link", "iframe"}.isdisjoint(page.tags)
    assert page.tags.count("audio") == 2
    assert page.tags.count("img") == 4  # EER, training curves, two spectrograms
    for link in (x for x in page.links if x.startswith("data:image")):
        assert base64.b64decode(link.partition(",")[2]).startswith(b"\x89PNG")
    assert [p.name for p in path.parent.iterdir()] == ["r.html"]


def test_results_are_shown_and_text_is_escaped(results, tmp_path):
    page = Page(write_report(tmp_path / "r.html", results=results, heading="<script>x</script>").read_text())
    assert "script" not in page.tags
    text = " ".join(page.text)
    for shown in ("csc <b>", "8.0", "6.0 to 11.0", "20.5 %", "untrained 44.4", "5.1 dB", "2.2 nats"):
        assert shown in text
    assert "MI, nats, at most 3.56" in text
    assert "35 speakers never trained on" in text


def test_best_value_of_a_column_is_bold(results, tmp_path):
    html = write_report(tmp_path / "r.html", results=results).read_text()
    assert "<b>20.5</b>" in html
    assert "<b>44.4</b>" not in html


def test_players_have_the_recordings_at_one_common_gain(samples, tmp_path):
    page = Page(write_report(tmp_path / "r.html", samples=samples).read_text())
    files = [base64.b64decode(x.partition(",")[2]) for x in page.links if x.startswith("data:audio/wav")]
    for sample, file in zip(samples, files, strict=True):
        wave_N, rate = soundfile.read(io.BytesIO(file))
        assert rate == sample.rate
        np.testing.assert_allclose(wave_N, sample.waveform / 2, atol=STEP)


def test_spectrogram_has_frequency_and_level_of_a_tone(samples):
    level_FT = spectrogram_db(samples[1].waveform, 8000)
    middle = level_FT[:, level_FT.shape[1] // 2]
    assert middle.argmax() == 32  # 1000 Hz in bins of 31.25
    assert middle.max() == pytest.approx(20 * np.log10(0.5), abs=0.01)


def test_curves_have_the_values_of_the_log(log):
    axis, curves = read_curves(find_log(log.parent))
    assert axis == "minutes"
    assert curves["loss"][0][:3] == [0.0, 0.1, 0.2]
    assert curves["loss"][1][99] == pytest.approx(7 - 99 / 50)
    assert curves["valid/csc_query"] == ([5.0], [5.5])
    assert "ok" not in curves
    assert curve_panels(curves) == {"loss": ["loss"], "csc": ["csc_query", "valid/csc_query"]}
    first, second = curves_figure(axis, curves).axes
    np.testing.assert_allclose(first.lines[0].get_ydata(), curves["loss"][1])
    assert [line.get_label() for line in second.lines][-1] == "valid/csc_query"


def test_running_mean_is_the_mean_of_the_last_values():
    value = np.random.default_rng(0).standard_normal(200)
    slow = [value[max(0, n - 19) : n + 1].mean() for n in range(200)]
    np.testing.assert_allclose(running_mean(value), slow, atol=1e-12)


def test_incomplete_last_line_is_ignored_and_damaged_line_is_reported(log, tmp_path):
    text = log.read_text()
    log.write_text(text + '{"step": 100, "lo')
    assert len(read_curves(log)[1]["loss"][1]) == 100
    log.write_text("{broken}\n" + text)
    with pytest.raises(SeparativeError, match=r"log.jsonl, line 1"):
        read_curves(log)
    log.write_text("3\n")
    with pytest.raises(SeparativeError, match=r"line 1: not a JSON object"):
        read_curves(log)
    with pytest.raises(SeparativeError, match="no training log"):
        write_report(tmp_path / "r.html", run=tmp_path / "nowhere")
    assert not (tmp_path / "r.html").exists()

"""The whole evaluation on a small corpus, and its result files."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from separative.corpora import Corpus, load_corpus
from separative.errors import CorpusError, SeparativeError
from separative.evaluation import Results, Row, TrialList, build_trials, eer_figure, evaluate
from separative.model import EncoderConfig, SeparativeEncoder

FIGURE = 1e-2
SWAP = 1.0  # in % of EER: two nearly equal scores of an untrained network may change their order
DATA = Path(os.environ.get("SEPARATIVE_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(scope="module")
def results(model, speech, noise):
    calls = []
    done = evaluate(
        model,
        speech,
        noise=noise,
        seconds=1.2,
        resamples=40,
        batch=7,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert [d for d, _ in calls] == sorted(d for d, _ in calls)
    assert calls[-1][0] == calls[-1][1]
    return done


def test_every_row_has_an_interval_and_a_number_of_trials(results):
    plain = {"trained", "trained (query)", "untrained", "MFCC statistics"}
    models = plain | {f"{name} (2 recordings, average)" for name in plain}
    models |= {f"{name} (2 recordings, cross-attention)" for name in ("trained", "untrained")}
    assert set(results.settings["rows"]) == plain
    conditions = {"clean", "overlap+5", "overlap0", "overlap-5", "noise5"}
    eers = [row for row in results.rows if row.metric == "EER"]
    assert {(r.model, r.condition, r.corpus) for r in eers} == {
        (m, c, corpus) for m in models for c in conditions for corpus in ("all", "one", "two")
    }
    for row in results.rows:
        assert row.low <= row.high
        assert row.trials > 0
        assert np.isfinite([row.value, row.low, row.high]).all()
    for metric in ("minDCF0.01", "minDCF0.05", "top-1", "top-5", "open set"):
        assert {(r.model, r.condition) for r in results.rows if r.metric == metric} == {
            (m, c) for m in models for c in conditions
        }
    for metric in ("SI-SDRi", "SI-SDR", "SDR"):
        separated = {(r.model, r.condition) for r in results.rows if r.metric == metric}
        assert separated == {
            (m, c) for m in ("trained", "untrained") for c in conditions if c.startswith("overlap")
        }
    for metric in ("DER", "missed", "false alarm", "confusion"):
        rows = {(r.model, r.condition) for r in results.rows if r.metric == metric}
        assert rows == {(m, c) for m in ("trained", "untrained") for c in conditions}
    informed = {(r.model, r.condition) for r in results.rows if r.metric == "MI"}
    assert informed == {(m, "clean") for m in plain} | {(m, "overlap0") for m in plain - {"MFCC statistics"}}
    assert results.settings["mi_ceiling"] == pytest.approx(np.log(9))


def test_spectra_distinguish_hummed_speakers_and_interference_adds_errors(results):
    clean = results.find("EER", "clean", model="MFCC statistics")
    assert clean.value < 15
    assert results.find("EER", "overlap-5", model="MFCC statistics").value > clean.value + 10


def test_batch_size_and_a_written_trial_list_do_not_change_the_results(
    results, model, speech, noise, tmp_path
):
    names = ("clean", "overlap+5", "overlap0", "overlap-5", "noise5")
    build_trials(speech, noise=noise, seconds=1.2, conditions=names).write(tmp_path / "list.txt")
    again = evaluate(
        model, speech, noise=noise, trials=TrialList.read(tmp_path / "list.txt"), resamples=40, batch=3
    )
    for one, other in zip(results.rows, again.rows, strict=True):
        assert (one.model, one.condition, one.metric, one.trials) == (
            other.model,
            other.condition,
            other.metric,
            other.trials,
        )
        tolerance = SWAP if one.metric == "EER" else FIGURE
        np.testing.assert_allclose(
            [one.value, one.low, one.high], [other.value, other.low, other.high], atol=tolerance
        )


def test_without_noise_the_conditions_with_noise_are_left_out(model, speech):
    done = evaluate(
        model, speech, name="csc", seconds=1.2, candidates="all", baselines=False, resamples=5, tests=1
    )
    assert {row.condition for row in done.rows} == {"clean", "overlap+5", "overlap0", "overlap-5"}
    assert done.settings["rows"] == ["csc", "csc (query)"]
    assert done.settings["candidates"] == "all"


def test_unreadable_files_are_in_no_trial(speech):
    lost = [replace(u, id=f"lost-{u.id}", path=u.path.with_name("lost.wav"), seconds=0.0) for u in speech]
    settings = {"conditions": ["clean", "overlap0"], "seconds": 1.2}
    assert build_trials(Corpus((*lost, *speech)), **settings) == build_trials(speech, **settings)


def test_invalid_arguments_raise_an_error(model, speech, noise):
    with pytest.raises(SeparativeError, match="valid: active, all"):
        evaluate(model, speech, candidates="loudest")
    with pytest.raises(CorpusError, match="no split 'test'; valid: dev"):
        evaluate(model, speech, split="test")
    with pytest.raises(CorpusError, match="noise corpus"):
        evaluate(model, speech, conditions=["noise5"], seconds=1.2)


def test_results_are_equal_after_saving_and_loading(results, tmp_path):
    path = results.save(tmp_path / "out")
    assert Results.load(path) == Results.load(tmp_path / "out") == results
    assert sorted(p.name for p in path.parent.iterdir()) == ["eer.png", "results.json", "results.md"]
    assert (tmp_path / "out" / "eer.png").read_bytes().startswith(b"\x89PNG")
    path.write_text(json.dumps({"rows": [{"model": "x"}]}))
    with pytest.raises(SeparativeError, match=r"results\.json"):
        Results.load(path)
    with pytest.raises(SeparativeError, match="have no EER of 'x'"):
        results.find("EER", "clean", model="x")


def test_the_table_has_value_and_interval_in_the_column_of_the_condition():
    rows = (
        Row("csc", "clean", "EER", 8.04, 6.0, 11.06, 100, "all", 0),
        Row("csc", "overlap0", "EER", 20.0, 15.0, 25.0, 90, "all", 0),
        Row("csc", "overlap0", "MI", 2.345, 2.0, 2.5, 90, "all", 0),
    )
    table = Results(rows, {"mi_ceiling": 3.5553}).table()
    assert "MI" not in Results(rows).table(["EER"]) and "**EER" in Results(rows).table(["EER"])
    assert "| model | clean | overlap0 |" in table
    assert "| csc | 8.0 (6.0 to 11.1) | 20.0 (15.0 to 25.0) |" in table
    assert "MI, nats, at most 3.56" in table
    assert "| csc | 2.35 (2.00 to 2.50) |" in table or "| csc | 2.34 (2.00 to 2.50) |" in table


def test_the_figure_shows_every_value_with_its_interval(results):
    (axes,) = eer_figure(results).axes
    assert [t.get_text() for t in axes.get_xticklabels()] == [
        "clean",
        "overlap+5",
        "overlap0",
        "overlap-5",
        "noise5",
    ]
    assert len(axes.containers) == 4
    points, _, (bars,) = axes.containers[0].lines
    row = results.find("EER", "clean", model="trained")
    assert points.get_ydata()[0] == pytest.approx(row.value)
    ends = [y for _, y in bars.get_segments()[0]]
    assert ends == pytest.approx([min(row.low, row.value), max(row.high, row.value)])


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "speech.csv").is_file(), reason=f"no real speech in {DATA}")
def test_mfcc_statistics_have_plausible_error_rates_on_real_speech():
    config = EncoderConfig(width=8, shared_blocks=1, stream_blocks=0, speaker_width=8, speaker_blocks=0)
    model = SeparativeEncoder(config).eval()
    corpus = load_corpus(DATA / "speech.csv")
    done = evaluate(model, corpus, conditions=["clean", "overlap0"], enrolments=1, tests=1, resamples=50)
    clean = done.find("EER", "clean", model="MFCC statistics")
    assert 12 < clean.value < 25
    assert done.find("EER", "overlap0", model="MFCC statistics").value > clean.value + 5
    assert clean.low < clean.value < clean.high

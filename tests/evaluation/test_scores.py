"""Figures of verification and identification compared with slow, simple reference code."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from separative.errors import SeparativeError
from separative.evaluation import CollectedOutputs, SystemOutput, build_trials, score
from separative.evaluation.bootstrap import SpeakerBootstrap
from separative.evaluation.verification import CondensedRoc, weighted_identification
from separative.metrics import (
    Roc,
    adaptive_snorm,
    eer,
    identification_rates,
    open_set_rate,
)

EXACT = 1e-9
ROUNDING = 1e-5
CONDITIONS = ("clean", "overlap0")


@pytest.fixture(scope="module")
def trials(speech):
    return build_trials(speech, seconds=1.2, conditions=CONDITIONS)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def made_up(trials, noise, seed, cohort=True):
    """Outputs of a system with two candidates, the target and another speaker, both with added ``noise``."""
    rng = np.random.default_rng(seed)
    names = sorted({side.speaker for side in trials.enrolments})
    true = {name: unit(rng.standard_normal(16)) for name in names}
    outputs = CollectedOutputs()
    for side, conditions in [(s, ("clean",)) for s in trials.enrolments] + [
        (s, CONDITIONS) for s in trials.tests
    ]:
        for condition in conditions:
            both = np.stack([true[side.speaker], unit(rng.standard_normal(16))])
            embedding = unit(both + noise * rng.standard_normal((2, 16))).astype(np.float32)
            active = np.array([True, condition != "clean"])
            outputs.single[side.id, condition] = SystemOutput(embedding, active)
    if cohort:
        outputs.cohort = unit(rng.standard_normal((40, 16))).astype(np.float32)
    return outputs


@pytest.fixture(scope="module")
def outputs(trials):
    return {"good": made_up(trials, 0.1, 0), "bad": made_up(trials, 0.4, 1, cohort=False)}


@pytest.fixture(scope="module")
def results(outputs, trials):
    return score(outputs, trials, resamples=60, against="good")


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_condensed_roc_has_the_figures_of_the_whole_roc(data):
    count = data.draw(st.integers(2, 40))
    scores = np.array(data.draw(st.lists(st.integers(0, 8), min_size=count, max_size=count)), float)
    target = np.array(
        [True, False, *data.draw(st.lists(st.booleans(), min_size=count - 2, max_size=count - 2))]
    )
    weight = np.array(data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)), float)
    whole = Roc(scores, target)
    small = CondensedRoc(whole)
    for weights in (np.ones(count), weight):
        (few,) = small.group_weights(weights[None])
        for figure in ("eer", "min_cllr"):
            assert getattr(small.roc, figure)(few) == pytest.approx(
                getattr(whole, figure)(weights), abs=EXACT, nan_ok=True
            )
        assert small.roc.min_dcf(0.05, few) == pytest.approx(
            whole.min_dcf(0.05, weights), abs=EXACT, nan_ok=True
        )


def cosines(output, trials, condition):
    """Score, label, compared speakers and sides of each trial of a condition."""
    sides = {s.id: s for s in (*trials.enrolments, *trials.tests)}
    rows = []
    for t in (t for t in trials.trials if t.condition == condition):
        left, right = output.single[t.enrolment, "clean"], output.single[t.test, condition]
        found = max(
            float(a @ b) for a in left.embeddings[left.active] for b in right.embeddings[right.active]
        )
        rows.append((found, t.target, sides[t.enrolment].speaker, sides[t.test].speaker, t.enrolment, t.test))
    return rows


@pytest.mark.parametrize("model", ["good", "bad"])
def test_error_rates_and_costs_equal_those_of_the_trials(results, outputs, trials, model):
    for condition in CONDITIONS:
        found, target, *_ = zip(*cosines(outputs[model], trials, condition), strict=True)
        roc = Roc(np.array(found), np.array(target))
        assert results.find("EER", condition, model=model).value == pytest.approx(100 * roc.eer(), abs=1e-3)
        for p in (0.01, 0.05):
            row = results.find(f"minDCF{p:g}", condition, model=model)
            assert row.value == pytest.approx(roc.min_dcf(p), abs=1e-3)
        assert results.find("EER", condition, model=model).trials == len(found)


def test_the_better_system_has_lower_calibrated_costs(results):
    for metric in ("Cllr", "minCllr", "EER", "minDCF0.05"):
        good, bad = (results.find(metric, "clean", model=m) for m in ("good", "bad"))
        assert good.value < bad.value
    for condition in CONDITIONS:
        least = results.find("minCllr", condition, model="bad").value
        assert 0 < least <= results.find("Cllr", condition, model="bad").value


def test_differences_are_paired(results, outputs, trials):
    row = results.find("EER difference", "overlap0", model="bad")
    good, bad = (results.find("EER", "overlap0", model=m) for m in ("good", "bad"))
    assert row.value == pytest.approx(bad.value - good.value)
    assert row.low <= row.value <= row.high
    twins = score({"one": outputs["bad"], "two": outputs["bad"]}, trials, resamples=30, against="one")
    same = twins.find("EER difference", "clean", model="two")
    assert (same.value, same.low, same.high) == (0, 0, 0)
    with pytest.raises(SeparativeError, match="did you mean 'good'"):
        score(outputs, trials, against="goood")


def test_several_enrolments_use_the_mean_of_their_most_active_candidates(results, outputs, trials):
    output, sides = outputs["bad"], {}
    for side in trials.enrolments:
        sides.setdefault(side.speaker, []).append(side.id)
    pairs = {(t.enrolment, t.test) for t in trials.trials if t.condition == "overlap0"}
    found, target = [], []
    for speaker, own in sides.items():
        mean = unit(sum(output.single[name, "clean"].embeddings[0] for name in own))
        for test in trials.tests:
            if all((name, test.id) in pairs for name in own):
                single = output.single[test.id, "overlap0"]
                found.append(max(mean @ e for e in single.embeddings[single.active]))
                target.append(speaker == test.speaker)
    row = results.find("EER", "overlap0", model="bad (2 recordings, average)")
    assert row.trials == len(found)
    assert row.value == pytest.approx(100 * eer(np.array(found), np.array(target)), abs=1e-3)


def test_active_streams_are_counted_and_compared(results, outputs, trials):
    for model in outputs:
        clean = results.find("active streams", "clean", model=model)
        assert (clean.value, clean.low, clean.high, clean.trials) == (1.0, 1.0, 1.0, len(trials.tests))
        assert results.find("active streams", "overlap0", model=model).value == 2.0
        # A single active stream has no other stream to compare it with.
        assert not [r for r in results.rows if (r.metric, r.condition) == ("stream cosine", "clean")]
        pairs = [outputs[model].single[side.id, "overlap0"].embeddings for side in trials.tests]
        found = results.find("stream cosine", "overlap0", model=model)
        assert found.value == pytest.approx(np.mean([a @ b for a, b in pairs]), abs=ROUNDING)
        assert found.low < found.value < found.high


def test_normalised_scores_equal_those_of_the_metric(results, outputs, trials):
    output = outputs["good"]
    rows = cosines(output, trials, "overlap0")

    def nearest(side, condition):
        single = output.single[side.id, condition]
        return (output.cohort @ single.embeddings[single.active].T).max(1)

    left = np.stack([nearest(s, "clean") for s in trials.enrolments])
    right = np.stack([nearest(s, "overlap0") for s in trials.tests])
    at = [{s.id: i for i, s in enumerate(some)} for some in (trials.enrolments, trials.tests)]
    whole = np.zeros((len(left), len(right)))
    for value, *_, enrolment, test in rows:
        whole[at[0][enrolment], at[1][test]] = value
    normal = adaptive_snorm(whole, left, right, 100)
    values = np.array([normal[at[0][e], at[1][t]] for *_, e, t in rows])
    expected = 100 * eer(values, np.array([row[1] for row in rows]))
    assert results.find("EER", "overlap0", model="good + s-norm").value == pytest.approx(expected, abs=1e-3)
    assert not [row for row in results.rows if row.model == "bad + s-norm"]


def test_weighted_identification_equals_identification_of_copied_probes():
    rng = np.random.default_rng(0)
    true = np.repeat(np.arange(7), 60)
    scores = rng.standard_normal((420, 7)).round(1)
    scores[np.arange(420), true] += 1.5
    weight = rng.integers(0, 3, (5, 420)).astype(float)
    found = weighted_identification(scores, true, np.vstack([np.ones(420), weight]))
    for number, times in enumerate([np.ones(420, int), *weight.astype(int)]):
        copied, own = np.repeat(scores, times, axis=0), np.repeat(true, times)
        rates = identification_rates(copied, own)
        assert found["top-1"][number] == pytest.approx(rates[1], abs=EXACT)
        assert found["top-5"][number] == pytest.approx(rates[5], abs=EXACT)
        assert found["open set"][number] == pytest.approx(open_set_rate(copied, own), abs=EXACT)


def test_the_gallery_has_the_corpus_without_the_interferers(results, outputs, trials):
    output, hits = outputs["bad"], []
    pairs = {(t.enrolment, t.test) for t in trials.trials if t.condition == "overlap0"}
    for test in trials.tests:
        by_speaker = {}
        for side in trials.enrolments:
            if (side.id, test.id) in pairs:
                one, other = output.single[side.id, "clean"], output.single[test.id, "overlap0"]
                best = (one.embeddings[:1] @ other.embeddings[other.active].T).max()
                by_speaker.setdefault(side.speaker, []).append(best)
        assert test.interferers[0].speaker not in by_speaker
        assert len(by_speaker) == sum(s.corpus == test.corpus for s in trials.enrolments) // 2 - 1
        hits.append(max(by_speaker, key=lambda t: np.mean(by_speaker[t])) == test.speaker)
    row = results.find("top-1", "overlap0", model="bad")
    assert row.value == pytest.approx(100 * np.mean(hits))
    assert row.low <= row.value <= row.high


def test_scores_that_are_not_finite_raise_an_error(outputs, trials):
    broken = made_up(trials, 0.1, 0)
    test = trials.tests[3].id
    broken.single[test, "overlap0"].embeddings[:] = np.nan
    with pytest.raises(
        SeparativeError, match=rf"^broken, condition 'overlap0': the score of .* against {test} is"
    ):
        score({"good": outputs["good"], "broken": broken}, trials, resamples=5)


def test_a_condition_without_non_targets_raises_an_error(outputs, trials):
    some = tuple(t for t in trials.trials if t.target or t.condition == "clean")
    with pytest.raises(SeparativeError, match="condition 'overlap0' has no non-target trials"):
        score(outputs, replace(trials, trials=some))


def test_the_ratio_is_computed_from_sums():
    speakers = SpeakerBootstrap(["a", "b"], 200, 0)
    value, low, high = speakers.ratio(
        np.array([1.0, 2.0, 3.0]), np.array([4.0, 4.0, 4.0]), np.array([0, 0, 1])
    )
    assert value == 0.5
    assert (low, high) == pytest.approx((3 / 8, 3 / 4))

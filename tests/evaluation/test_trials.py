"""Trial lists keep the protocol's rules, and text brings them back."""

import itertools

import pytest

from separative.corpora.manifest import Corpus
from separative.errors import CorpusError, SeparativeError
from separative.evaluation import CONDITIONS, TrialList, build_trials


@pytest.fixture(scope="module")
def trials(speech, noise):
    return build_trials(speech, noise=noise, seconds=1.2, conditions=("clean", "overlap0", "noise5"))


def test_every_talker_with_enough_speech_gives_both_kinds_of_sides(trials, speech):
    talkers = set(speech.speakers) - {"one/lonely"}
    assert {s.talker for s in trials.enrolments} == {s.talker for s in trials.tests} == talkers
    assert set(trials.corpus_of.values()) == {"one", "two"}


def test_no_utterance_is_on_two_sides_of_a_talker_and_each_side_is_long_enough(trials, speech):
    by_id = {u.id: u for u in speech}
    used = [name for side in (*trials.enrolments, *trials.tests) for name in side.utterances]
    assert len(used) == len(set(used))
    for side in (*trials.enrolments, *trials.tests):
        assert sum(by_id[name].seconds for name in side.utterances) >= 1.2
        assert {by_id[name].speaker for name in side.utterances} == {side.talker}


def test_interferers_are_other_talkers_of_the_same_corpus(trials, speech):
    by_id = {u.id: u for u in speech}
    for side in (*trials.enrolments, *trials.tests):
        names = [rival.talker for rival in side.rivals]
        assert len(names) == len(set(names)) == 2
        assert side.talker not in names
        for rival in side.rivals:
            assert {by_id[u].corpus for u in rival.utterances} == {side.corpus}
            assert {by_id[u].speaker for u in rival.utterances} == {rival.talker}


def test_trials_are_all_pairs_within_a_corpus_but_for_enrolled_interferers(trials):
    made = {(t.enrolment, t.test, t.condition): t.target for t in trials.trials}
    assert len(made) == len(trials.trials)
    left_out = 0
    for one, other, condition in itertools.product(trials.enrolments, trials.tests, trials.conditions):
        rivals = {r.talker for r in other.rivals[: len(CONDITIONS[condition].sir_db)]}
        wanted = one.corpus == other.corpus and one.talker not in rivals
        left_out += one.corpus == other.corpus and one.talker in rivals
        assert ((one.id, other.id, condition) in made) == wanted
        if wanted:
            assert made[one.id, other.id, condition] == (one.talker == other.talker)
    assert left_out > 0


def test_mixed_enrolment_shares_nobody_but_the_compared_talker(speech):
    trials = build_trials(speech, seconds=1.2, conditions=("overlap0",), enrol="overlap0")
    sides = {s.id: s for s in (*trials.enrolments, *trials.tests)}
    assert any(t.target for t in trials.trials)
    for trial in trials.trials:
        one, other = sides[trial.enrolment], sides[trial.test]
        shared = {one.talker, one.rivals[0].talker} & {other.talker, other.rivals[0].talker}
        assert shared == ({one.talker} if trial.target else set())


def test_text_brings_the_list_back(trials, tmp_path):
    trials.write(tmp_path / "list.txt")
    assert TrialList.read(tmp_path / "list.txt") == trials
    last = (tmp_path / "list.txt").read_text().splitlines()[-1].split()
    assert last[0] in "01" and len(last) == 4


def test_draws_depend_on_the_seed_and_not_on_the_conditions(trials, speech, noise):
    again = build_trials(speech, noise=noise, seconds=1.2, conditions=("overlap-5",))
    assert again.tests == trials.tests
    silent = build_trials(speech, seconds=1.2, conditions=("clean",))
    assert [s.rivals for s in silent.tests] == [s.rivals for s in trials.tests]
    other = build_trials(speech, noise=noise, seconds=1.2, seed=1)
    assert other.tests != trials.tests


def test_what_a_user_gets_wrong(speech, tmp_path):
    with pytest.raises(CorpusError, match="noise corpus"):
        build_trials(speech, conditions=("noise5",))
    with pytest.raises(SeparativeError, match=r"did you mean 'overlap0'"):
        build_trials(speech, conditions=("overlap_0",))
    with pytest.raises(CorpusError, match=r"at least 3 talkers with two sides of 60 s.*one, two"):
        build_trials(speech, seconds=60.0, conditions=("overlap0",))
    with pytest.raises(CorpusError, match="no labelled talkers"):
        build_trials(Corpus(()), conditions=("clean",))
    (tmp_path / "veri.txt").write_text("1 a b\n")
    with pytest.raises(SeparativeError, match="first line must be"):
        TrialList.read(tmp_path / "veri.txt")


def test_a_malformed_line_is_named(trials, tmp_path):
    path = tmp_path / "list.txt"
    trials.write(path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:5], "maybe a b clean", *lines[5:]]))
    with pytest.raises(SeparativeError, match="line 6"):
        TrialList.read(path)

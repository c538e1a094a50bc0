"""Trial lists keep the protocol's rules, and text brings them back."""

import hashlib
import itertools
import subprocess
import sys
from dataclasses import replace

import pytest

from separative.corpora import save_corpus
from separative.corpora.manifest import Corpus
from separative.errors import CorpusError, SeparativeError
from separative.evaluation import CONDITIONS, Sounds, TrialList, build_trials
from separative.evaluation.collect import mixtures
from separative.evaluation.trials import Rooms
from separative.mixtures.rooms import JUDGED


@pytest.fixture(scope="module")
def trials(speech, noise):
    return build_trials(speech, noise=noise, seconds=1.2, conditions=("clean", "overlap0", "noise5"))


def test_every_speaker_with_enough_speech_gives_both_kinds_of_sides(trials, speech):
    speakers = set(speech.speakers) - {"one/lonely"}
    assert {s.speaker for s in trials.enrolments} == {s.speaker for s in trials.tests} == speakers
    assert set(trials.corpus_of.values()) == {"one", "two"}


def test_no_utterance_is_on_two_sides_of_a_speaker_and_each_side_is_long_enough(trials, speech):
    by_id = {u.id: u for u in speech}
    used = [name for side in (*trials.enrolments, *trials.tests) for name in side.utterances]
    assert len(used) == len(set(used))
    for side in (*trials.enrolments, *trials.tests):
        assert sum(by_id[name].seconds for name in side.utterances) >= 1.2
        assert {by_id[name].speaker for name in side.utterances} == {side.speaker}


def test_interferers_are_other_speakers_of_the_same_corpus(trials, speech):
    by_id = {u.id: u for u in speech}
    for side in (*trials.enrolments, *trials.tests):
        names = [rival.speaker for rival in side.rivals]
        assert len(names) == len(set(names)) == 2
        assert side.speaker not in names
        for rival in side.rivals:
            assert {by_id[u].corpus for u in rival.utterances} == {side.corpus}
            assert {by_id[u].speaker for u in rival.utterances} == {rival.speaker}


def test_trials_are_all_pairs_within_a_corpus_but_for_enrolled_interferers(trials):
    made = {(t.enrolment, t.test, t.condition): t.target for t in trials.trials}
    assert len(made) == len(trials.trials)
    left_out = 0
    for one, other, condition in itertools.product(trials.enrolments, trials.tests, trials.conditions):
        rivals = {r.speaker for r in other.rivals[: len(CONDITIONS[condition].sir_db)]}
        wanted = one.corpus == other.corpus and one.speaker not in rivals
        left_out += one.corpus == other.corpus and one.speaker in rivals
        assert ((one.id, other.id, condition) in made) == wanted
        if wanted:
            assert made[one.id, other.id, condition] == (one.speaker == other.speaker)
    assert left_out > 0


def test_mixed_enrolment_shares_nobody_but_the_compared_speaker(speech):
    trials = build_trials(speech, seconds=1.2, conditions=("overlap0",), enrol="overlap0")
    sides = {s.id: s for s in (*trials.enrolments, *trials.tests)}
    assert any(t.target for t in trials.trials)
    for trial in trials.trials:
        one, other = sides[trial.enrolment], sides[trial.test]
        shared = {one.speaker, one.rivals[0].speaker} & {other.speaker, other.rivals[0].speaker}
        assert shared == ({one.speaker} if trial.target else set())


def test_text_brings_the_list_back(trials, tmp_path):
    trials.write(tmp_path / "list.txt")
    assert TrialList.read(tmp_path / "list.txt") == trials
    last = (tmp_path / "list.txt").read_text().splitlines()[-1].split()
    assert last[0] in "01" and len(last) == 4


REBUILD = """
import hashlib, sys
from pathlib import Path
from separative.corpora import load_corpus
from separative.evaluation import Sounds, TrialList
from separative.evaluation.collect import mixtures
trials = TrialList.read(sys.argv[1])
sounds = Sounds(load_corpus(sys.argv[2]), load_corpus(sys.argv[3]), 8000, trials.seconds)
for key, heard in mixtures(trials, sounds):
    print(*key, hashlib.sha256(heard.mix_N.tobytes() + heard.source_KN.tobytes()).hexdigest())
"""


def test_the_list_alone_rebuilds_every_sample_in_another_process(speech, noise, tmp_path):
    names = ("clean", "overlap0x2", "room", "mixed", "noise0@0.7")
    trials = build_trials(
        speech, noise=noise, seconds=1.2, conditions=names, enrol="mixed", tests=1, rooms=Rooms(count=2)
    )
    trials.write(tmp_path / "list.txt")
    paths = [tmp_path / "speech.jsonl", tmp_path / "noise.jsonl"]
    for corpus, path in zip((speech, noise), paths, strict=True):
        save_corpus(corpus, path)
    command = [sys.executable, "-c", REBUILD, str(tmp_path / "list.txt"), *map(str, paths)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    sounds = Sounds(speech, noise, 8000, 1.2)
    here = [
        f"{side} {name} {hashlib.sha256(heard.mix_N.tobytes() + heard.source_KN.tobytes()).hexdigest()}"
        for (side, name), heard in mixtures(trials, sounds)
    ]
    assert len(here) == len(trials.tests) * len(names) + 2 * len(trials.enrolments)
    assert done.stdout.split("\n")[:-1] == here


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
    with pytest.raises(CorpusError, match=r"at least 3 speakers with two sides of 60 s.*one, two"):
        build_trials(speech, seconds=60.0, conditions=("overlap0",))
    with pytest.raises(CorpusError, match="no labelled speakers"):
        build_trials(Corpus(()), conditions=("clean",))
    (tmp_path / "veri.txt").write_text("1 a b\n")
    with pytest.raises(SeparativeError, match="first line must be"):
        TrialList.read(tmp_path / "veri.txt")


def test_a_malformed_line_is_named(trials, tmp_path):
    path = tmp_path / "list.txt"
    trials.write(path)
    lines = path.read_text().splitlines()
    one, other = trials.enrolments[0].id, trials.tests[0].id
    for wrong, words in {
        "maybe a b clean": "line 6.*'a' is no enrolment side",
        f"1 {one} nobody:t0 clean": "line 6.*'nobody:t0' is no test side",
        f"1 {one} {other} room": "'room' is not a condition of this list",
        f"0 {one} {other} clean": "label 0 contradicts",
        f"2 {one} {other} clean": "line 6",
    }.items():
        path.write_text("\n".join([*lines, wrong]))
        with pytest.raises(SeparativeError, match=words.replace("line 6", f"line {len(lines) + 1}")):
            TrialList.read(path)


def test_lists_that_cannot_be_scored_are_refused(trials, speech, noise, tmp_path):
    ids = {u.id for u in (*speech, *noise)}
    trials.check(ids)
    path = tmp_path / "list.txt"
    trials.write(path)
    third = trials.enrolments[2]
    lost = third.utterances[0]
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if f'"{lost}"' in text)
    with pytest.raises(CorpusError, match=rf"list\.txt, line {line}: '{lost}' is not in the corpus"):
        TrialList.read(path).check(ids - {lost})
    with pytest.raises(CorpusError, match=rf"side {third.id}: '{third.noise}'"):
        replace(trials, enrolments=(third,), tests=()).check(ids - {third.noise})
    for kind, word in ((True, "non-target"), (False, "target")):
        some = tuple(t for t in trials.trials if t.target == kind or t.condition != "overlap0")
        with pytest.raises(SeparativeError, match=f"condition 'overlap0' has no {word} trials"):
            replace(trials, trials=some).check(ids)


def test_speakers_of_the_training_are_refused(trials, speech):
    trials.refuse({"one/lonely", "somebody else"})
    with pytest.raises(SeparativeError, match=r"speaker 'one/speaker 3' is heard in training.*\(2 such"):
        trials.refuse({"two/speaker 7", "one/speaker 3", "somebody else"})


def test_of_cuts_that_share_sound_one_is_used(speech):
    cuts = [replace(u, id=f"{u.id}-late", start=0.3, seconds=u.seconds - 0.3) for u in speech]
    apart = [replace(u, id=f"{u.id}-next", start=u.start + u.seconds) for u in speech]
    both = Corpus((*cuts, *speech))
    settings = {"seconds": 1.2, "conditions": ["clean"]}
    assert build_trials(both, **settings) == build_trials(speech, **settings)
    more = build_trials(Corpus((*speech, *apart)), **settings)
    assert any(name.endswith("-next") for side in more.tests for name in side.utterances)


def test_rooms_to_be_judged_in_are_none_of_a_training_with_that_seed(trials):
    assert trials.rooms.seed == JUDGED + trials.seed > 10**6


def test_sides_that_lack_what_their_conditions_add_are_refused(trials, speech, noise):
    ids = {u.id for u in (*speech, *noise)}
    trials.check(ids)
    first = trials.tests[0]
    for side, words in (
        (replace(first, noise=None), "'noise5' adds noise, it has none"),
        (replace(first, rivals=()), "'overlap0' adds 1 speakers, it has 0"),
        (replace(first, rivals=(replace(first.rivals[0], speaker="one/lonely"),)), "lonely' is not enrolled"),
        (replace(first, id=trials.enrolments[0].id), "an enrolment has that id too"),
    ):
        with pytest.raises(SeparativeError, match=words):
            replace(trials, tests=(side, *trials.tests[1:])).check(ids)


def test_a_condition_longer_than_the_sides_is_refused(speech):
    with pytest.raises(SeparativeError, match=r"'short' is 2 s long, sides are 1\.2 s"):
        build_trials(speech, seconds=1.2, conditions=["clean", "short"])

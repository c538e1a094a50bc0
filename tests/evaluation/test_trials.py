"""Trial lists: rules of drawing, reading and writing, and errors."""

import hashlib
import itertools
import subprocess
import sys
from dataclasses import replace

import pytest

from separative.corpora import save_corpus
from separative.corpora.manifest import Corpus
from separative.errors import CorpusError, SeparativeError
from separative.evaluation import CONDITIONS, TrialList, TrialRecordings, build_trials
from separative.evaluation.collect import mix_sides
from separative.evaluation.trials import RoomSettings
from separative.mixtures.rooms import EVALUATION_SEED


@pytest.fixture(scope="module")
def trials(speech, noise):
    return build_trials(speech, noise=noise, seconds=1.2, conditions=("clean", "overlap0", "noise5"))


def test_every_speaker_with_enough_speech_has_enrolment_and_test_sides(trials, speech):
    speakers = set(speech.speakers) - {"one/lonely"}
    assert {s.speaker for s in trials.enrolments} == {s.speaker for s in trials.tests} == speakers
    assert set(trials.corpus_of.values()) == {"one", "two"}


def test_sides_of_a_speaker_are_disjoint_and_long_enough(trials, speech):
    by_id = {u.id: u for u in speech}
    used = [name for side in (*trials.enrolments, *trials.tests) for name in side.utterances]
    assert len(used) == len(set(used))
    for side in (*trials.enrolments, *trials.tests):
        assert sum(by_id[name].seconds for name in side.utterances) >= 1.2
        assert {by_id[name].speaker for name in side.utterances} == {side.speaker}


def test_interferers_are_other_speakers_of_the_same_corpus(trials, speech):
    by_id = {u.id: u for u in speech}
    for side in (*trials.enrolments, *trials.tests):
        names = [interferer.speaker for interferer in side.interferers]
        assert len(names) == len(set(names)) == 2
        assert side.speaker not in names
        for interferer in side.interferers:
            assert {by_id[u].corpus for u in interferer.utterances} == {side.corpus}
            assert {by_id[u].speaker for u in interferer.utterances} == {interferer.speaker}


def test_trials_are_all_pairs_within_a_corpus_except_those_with_enrolled_interferers(trials):
    made = {(t.enrolment, t.test, t.condition): t.target for t in trials.trials}
    assert len(made) == len(trials.trials)
    left_out = 0
    for one, other, condition in itertools.product(trials.enrolments, trials.tests, trials.conditions):
        interferers = {i.speaker for i in other.interferers[: len(CONDITIONS[condition].sir_db)]}
        wanted = one.corpus == other.corpus and one.speaker not in interferers
        left_out += one.corpus == other.corpus and one.speaker in interferers
        assert ((one.id, other.id, condition) in made) == wanted
        if wanted:
            assert made[one.id, other.id, condition] == (one.speaker == other.speaker)
    assert left_out > 0


def test_with_mixed_enrolment_sides_share_only_the_compared_speaker(speech):
    trials = build_trials(speech, seconds=1.2, conditions=("overlap0",), enrol="overlap0")
    sides = {s.id: s for s in (*trials.enrolments, *trials.tests)}
    assert any(t.target for t in trials.trials)
    for trial in trials.trials:
        one, other = sides[trial.enrolment], sides[trial.test]
        shared = {one.speaker, one.interferers[0].speaker} & {other.speaker, other.interferers[0].speaker}
        assert shared == ({one.speaker} if trial.target else set())


def test_a_list_is_equal_after_writing_and_reading(trials, tmp_path):
    trials.write(tmp_path / "list.txt")
    assert TrialList.read(tmp_path / "list.txt") == trials
    last = (tmp_path / "list.txt").read_text().splitlines()[-1].split()
    assert last[0] in "01" and len(last) == 4


REBUILD = """
import hashlib, sys
from pathlib import Path
from separative.corpora import load_corpus
from separative.evaluation import TrialRecordings, TrialList
from separative.evaluation.collect import mix_sides
trials = TrialList.read(sys.argv[1])
recordings = TrialRecordings(load_corpus(sys.argv[2]), load_corpus(sys.argv[3]), 8000, trials.seconds)
for key, mixed in mix_sides(trials, recordings):
    print(*key, hashlib.sha256(mixed.waveform.tobytes() + mixed.sources.tobytes()).hexdigest())
"""


def test_another_process_reproduces_every_sample_from_the_list(speech, noise, tmp_path):
    names = ("clean", "overlap0x2", "room", "mixed", "noise0@0.7")
    trials = build_trials(
        speech,
        noise=noise,
        seconds=1.2,
        conditions=names,
        enrol="mixed",
        tests=1,
        rooms=RoomSettings(count=2),
    )
    trials.write(tmp_path / "list.txt")
    paths = [tmp_path / "speech.jsonl", tmp_path / "noise.jsonl"]
    for corpus, path in zip((speech, noise), paths, strict=True):
        save_corpus(corpus, path)
    command = [sys.executable, "-c", REBUILD, str(tmp_path / "list.txt"), *map(str, paths)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    recordings = TrialRecordings(speech, noise, 8000, 1.2)
    here = [
        f"{side} {name} {hashlib.sha256(mixed.waveform.tobytes() + mixed.sources.tobytes()).hexdigest()}"
        for (side, name), mixed in mix_sides(trials, recordings)
    ]
    assert len(here) == len(trials.tests) * len(names) + 2 * len(trials.enrolments)
    assert done.stdout.split("\n")[:-1] == here


def test_draws_depend_on_the_seed_but_not_on_the_conditions(trials, speech, noise):
    again = build_trials(speech, noise=noise, seconds=1.2, conditions=("overlap-5",))
    assert again.tests == trials.tests
    without_noise = build_trials(speech, seconds=1.2, conditions=("clean",))
    assert [s.interferers for s in without_noise.tests] == [s.interferers for s in trials.tests]
    other = build_trials(speech, noise=noise, seconds=1.2, seed=1)
    assert other.tests != trials.tests


def test_invalid_arguments_and_files_raise_an_error(speech, tmp_path):
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


def test_errors_name_the_malformed_line(trials, tmp_path):
    path = tmp_path / "list.txt"
    trials.write(path)
    lines = path.read_text().splitlines()
    one, other = trials.enrolments[0].id, trials.tests[0].id
    for wrong, words in {
        "maybe a b clean": "line 6.*no enrolment side 'a'",
        f"1 {one} unknown:t0 clean": "line 6.*no test side 'unknown:t0'",
        f"1 {one} {other} room": "'room' is not a condition of this list",
        f"0 {one} {other} clean": "label 0 contradicts",
        f"2 {one} {other} clean": "line 6",
    }.items():
        path.write_text("\n".join([*lines, wrong]))
        with pytest.raises(SeparativeError, match=words.replace("line 6", f"line {len(lines) + 1}")):
            TrialList.read(path)


def test_lists_that_cannot_be_scored_raise_an_error(trials, speech, noise, tmp_path):
    ids = {u.id for u in (*speech, *noise)}
    trials.check(ids)
    path = tmp_path / "list.txt"
    trials.write(path)
    third = trials.enrolments[2]
    lost = third.utterances[0]
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if f'"{lost}"' in text)
    with pytest.raises(CorpusError, match=rf"list\.txt, line {line}: .* no utterance '{lost}'"):
        TrialList.read(path).check(ids - {lost})
    with pytest.raises(CorpusError, match=rf"side {third.id}: .* no utterance '{third.noise}'"):
        replace(trials, enrolments=(third,), tests=()).check(ids - {third.noise})
    for kind, word in ((True, "non-target"), (False, "target")):
        kept = tuple(t for t in trials.trials if t.target == kind or t.condition != "overlap0")
        with pytest.raises(SeparativeError, match=f"condition 'overlap0' has no {word} trials"):
            replace(trials, trials=kept).check(ids)


def test_training_speakers_raise_an_error(trials, speech):
    trials.check_speakers({"one/lonely", "another speaker"})
    with pytest.raises(SeparativeError, match=r"speaker 'one/speaker 3' is in training.*\(2 shared"):
        trials.check_speakers({"two/speaker 7", "one/speaker 3", "another speaker"})


def test_only_one_of_overlapping_cuts_is_used(speech):
    cuts = [replace(u, id=f"{u.id}-late", start=0.3, seconds=u.seconds - 0.3) for u in speech]
    later = [replace(u, id=f"{u.id}-next", start=u.start + u.seconds) for u in speech]
    both = Corpus((*cuts, *speech))
    settings = {"seconds": 1.2, "conditions": ["clean"]}
    assert build_trials(both, **settings) == build_trials(speech, **settings)
    more = build_trials(Corpus((*speech, *later)), **settings)
    assert any(name.endswith("-next") for side in more.tests for name in side.utterances)


def test_rooms_differ_from_those_of_a_training_with_the_same_seed(trials):
    assert trials.rooms.seed == EVALUATION_SEED + trials.seed > 10**6


def test_sides_that_lack_what_a_condition_adds_raise_an_error(trials, speech, noise):
    ids = {u.id for u in (*speech, *noise)}
    trials.check(ids)
    first = trials.tests[0]
    for side, words in (
        (replace(first, noise=None), "'noise5' adds noise; the side has none"),
        (replace(first, interferers=()), "'overlap0' adds 1 interferers; the side has 0"),
        (
            replace(first, interferers=(replace(first.interferers[0], speaker="one/lonely"),)),
            "lonely' is not enrolled",
        ),
        (replace(first, id=trials.enrolments[0].id), "an enrolment side has the same id"),
    ):
        with pytest.raises(SeparativeError, match=words):
            replace(trials, tests=(side, *trials.tests[1:])).check(ids)


def test_a_condition_longer_than_the_sides_raises_an_error(speech):
    with pytest.raises(SeparativeError, match=r"'short' is 2 s long, but sides are 1\.2 s"):
        build_trials(speech, seconds=1.2, conditions=["clean", "short"])

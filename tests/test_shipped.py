"""The model that comes with the package: whole, small, said to be what it is, and of use at once, offline."""

import socket
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest

from separative import audio, embed, load_corpus, load_model, separate, verify
from separative.cli import main
from separative.inference import StreamingDiarizer, diarize
from separative.metrics import eer, si_sdr_improvement
from separative.model.files import DEFAULT, SHIPPED, WEIGHTS, model_names

MOST_BYTES = 16 << 20


@pytest.fixture(scope="module")
def model():
    return load_model()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something reached for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def test_it_is_there_small_and_says_what_it_is(model) -> None:
    assert DEFAULT in model_names()
    folder = SHIPPED / DEFAULT
    assert (folder / WEIGHTS).stat().st_size <= MOST_BYTES
    card = model.card
    assert card["identity"] == "speaker" and card["data"]["speaker_count"] > 500
    assert card["calibration"]["held_out"]["loss"] < 0.1
    assert card["training"]["mixture_seconds"] > 0 and card["training"]["machine"]
    words = (folder / "README.md").read_text(encoding="utf-8").lower()
    for must in ("licence", "not for", "children", "telephone", "eer", card["sha256"][:12]):
        assert must in words, must


def test_verbs_work_without_naming_a_model_and_without_a_network(
    offline: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    time = np.arange(3 * 16000) / 16000
    for name, pitch in (("a", 110.0), ("b", 210.0)):
        buzz = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 20))
        buzz *= np.abs(np.sin(2 * np.pi * 2.3 * time)) + 0.01 * rng.standard_normal(len(time))
        audio.write(tmp_path / f"{name}.wav", (0.1 * buzz).astype(np.float32), 16000)
    a, b = str(tmp_path / "a.wav"), str(tmp_path / "b.wav")
    assert main(["verify", a, b]) == 0
    assert "log-likelihood ratio" in capsys.readouterr().out
    with chdir(tmp_path):
        assert main(["separate", a]) == 0
    assert main(["embed", a, b, "--out", str(tmp_path / "e.npz")]) == 0
    assert len(list((tmp_path / "speakers").glob("*.wav"))) >= 1


@pytest.mark.data
def test_it_knows_speakers_it_has_never_heard(model, data: Path) -> None:
    """A check of sanity: the table's figures are made by `separative evaluate`."""
    corpus = load_corpus(data / "speech.csv", keep_damaged=True).split("dev")
    assert not set(corpus.speakers) & set(model.card["data"]["speakers"])
    sides = {
        name: [u for u in us if u.seconds > 2][:2]
        for name, us in corpus.by_speaker.items()
        if us[0].corpus == "speechocean762"
    }
    heard = {
        name: [embed(model, u.path).speakers[0].embedding for u in us]
        for name, us in sides.items()
        if len(us) == 2
    }
    names = list(heard)
    scores = [(float(heard[a][0] @ heard[b][1]), a == b) for a in names for b in names]
    assert len(names) > 15
    assert eer(*(np.array(x) for x in zip(*scores, strict=True))) < 0.15


@pytest.mark.data
def test_it_separates_and_says_who_is_there(model, data: Path) -> None:
    corpus = load_corpus(data / "speech.csv", keep_damaged=True).split("dev")
    ours = [us for us in corpus.by_speaker.values() if us[0].corpus == "speechocean762"]
    waves = [np.concatenate([audio.read(u.path, 16000)[0] for u in us[:3]])[: 4 * 16000] for us in ours[:12]]
    gains, right = [], 0
    for first, second in zip(range(6), range(6, 12), strict=True):
        a, b = (
            wave[: min(map(len, (waves[first], waves[second])))] for wave in (waves[first], waves[second])
        )
        b = b * np.float32(a.std() / b.std())
        heard = separate(model, (a + b, 16000))
        estimate_CN = np.stack([t.waveform for t in heard.streams])
        gains += si_sdr_improvement(estimate_CN, np.stack([a, b]), a + b)[0].tolist()
        # Single utterances may hold too little speech to enrol anybody.
        enrolled = [
            np.concatenate([audio.read(u.path, 16000)[0] for u in ours[k][4:7]])
            for k in (first, (first + 1) % 6)
        ]
        there, absent = (verify(model, (wave, 16000), (a + b, 16000)).score for wave in enrolled)
        right += there > absent
    assert np.mean(gains) > 2.5 and right >= 5
    turns = np.concatenate([waves[2], np.zeros(8000, np.float32), waves[7]])
    assert len(diarize(model, (turns, 16000), speakers=2).speakers) == 2


@pytest.mark.data
def test_a_stream_tells_two_speakers_apart_and_knows_the_first_again(model, data: Path) -> None:
    corpus = load_corpus(data / "speech.csv", keep_damaged=True).split("dev")
    said = []
    for speaker in ("speechocean762/0461", "speechocean762/3068"):
        waves = [audio.read(u.path, 16000)[0] for u in corpus.by_speaker[speaker]]
        said.append(np.concatenate([0.05 * w / np.sqrt(np.mean(w**2)) for w in waves]))
    seconds = 8 * 16000
    turns = [said[0][:seconds], said[1][:seconds], said[0][seconds : 2 * seconds]]
    listener = StreamingDiarizer(model)
    updates = listener.push(np.concatenate(turns).astype(np.float32)) + listener.finish()
    assert len(updates[-1].embedding) == 2
    # Those who have not spoken yet are not in an update.
    spoken_UK = np.stack([np.pad(u.activity.sum(1), (0, 2 - len(u.activity))) for u in updates])
    start_U = np.array([u.start for u in updates])
    most = [spoken_UK[(start_U >= turn + 3) & (start_U < turn + 7)].sum(0).argmax() for turn in (0, 8, 16)]
    assert most[0] == most[2] != most[1]

"""Embedding a corpus into Parquet files: equal rows after interruptions, and one model per folder."""

import logging
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from separative import audio
from separative.errors import SeparativeError
from separative.inference import Cut, embed_corpus, embed_many
from separative.model import save_model

parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra 'bulk'")
RATE = 8000


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory: pytest.TempPathFactory):
    from separative.model import load_model

    return load_model(save_model(model, tmp_path_factory.mktemp("saved")))


@pytest.fixture
def cuts(record, tmp_path: Path) -> list[Cut]:
    paths = [record(f"bulk{n}.wav", seconds=0.8 + 0.3 * n, seed=n) for n in range(7)]
    made = [Cut(f"cut{n}", path) for n, path in enumerate(paths)]
    (tmp_path / "bad.wav").write_bytes(b"nothing")
    made.insert(3, Cut("bad", tmp_path / "bad.wav"))
    made.append(Cut("piece", paths[6], 0.5, 1.25, speaker="ann"))
    return made


def rows(folder: Path) -> list[dict]:
    paths = sorted(folder.glob("part-*.parquet"))
    return [row for path in paths for row in parquet.read_table(path).to_pylist()]


def test_rows_equal_the_embeddings_of_single_recordings(saved, cuts: list[Cut], tmp_path: Path) -> None:
    folder = embed_corpus(saved, cuts, tmp_path / "out", part_size=4, batch=3)
    found = rows(folder)
    good = [cut for cut in cuts[:-1] if cut.id != "bad"]
    expected = {c.id: r for c, r in zip(good, embed_many(saved, [c.path for c in good]), strict=True)}
    wave_N, rate = audio.read(cuts[-1].path, start=0.5, seconds=1.25)
    [expected["piece"]] = embed_many(saved, [(wave_N, rate)])
    for name, recording in expected.items():
        own_rows = [row for row in found if row["id"] == name]
        assert [row["stream"] for row in own_rows] == [speaker.stream for speaker in recording.speakers]
        for row, speaker in zip(own_rows, recording.speakers, strict=True):
            np.testing.assert_allclose(row["embedding"], speaker.embedding, atol=1e-5)
            np.testing.assert_allclose(row["activity"], speaker.activity, atol=1e-5)
            assert row["model"] == saved.card["sha256"] and row["error"] is None
    [bad] = [row for row in found if row["id"] == "bad"]
    assert {row["speaker"] for row in found if row["id"] == "piece"} == {"ann"}
    assert {row["speaker"] for row in found if row["id"] != "piece"} == {None}
    assert "bad.wav" in bad["error"] and bad["embedding"] is None
    assert [row["id"] for row in found] == sorted(
        (row["id"] for row in found), key=[cut.id for cut in cuts].index
    )


def test_an_interrupted_call_continues_and_other_settings_are_refused(
    saved, cuts: list[Cut], tmp_path: Path
) -> None:
    whole = rows(embed_corpus(saved, cuts, tmp_path / "whole", part_size=2))
    reported: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        reported.append((done, total))
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_corpus(saved, cuts, tmp_path / "out", part_size=2, progress=stop)
    first = sorted(p.name for p in (tmp_path / "out").glob("part-*"))
    assert first == ["part-000000.parquet", "part-000001.parquet"]
    embed_corpus(saved, cuts, tmp_path / "out", part_size=2, progress=lambda *t: reported.append(t))
    assert reported == [(2, 9), (4, 9), (6, 9), (8, 9), (9, 9)]
    assert rows(tmp_path / "out") == whole
    for other, key in (
        ({"cuts": cuts[:-1]}, "recordings"),
        ({"part_size": 3}, "part_size"),
        ({"channels": "first"}, "channels"),
    ):
        arguments = {"cuts": cuts, "part_size": 2} | other
        with pytest.raises(SeparativeError, match=f"started with another '{key}"):
            embed_corpus(saved, arguments.pop("cuts"), tmp_path / "out", **arguments)


def test_a_cluster_writes_the_same_rows_even_if_a_worker_is_killed(
    saved, cuts: list[Cut], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra 'ray'")
    many = [cut._replace(id=f"{cut.id}-{n}") for n in range(12) for cut in cuts]
    whole = rows(embed_corpus(saved, many, tmp_path / "whole", part_size=6))
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    killed: list[int] = []

    def kill(done: int, total: int) -> None:
        # After the first part, kill one of the workers that run a task.
        if not killed:
            names = subprocess.run(
                ["pgrep", "-f", "ray::_write_part_task"], capture_output=True, text=True
            ).stdout.split()
            for number in names[:1]:
                os.kill(int(number), signal.SIGKILL)
                killed.append(int(number))

    try:
        embed_corpus(saved, many, tmp_path / "out", part_size=6, engine="ray", progress=kill)
    finally:
        ray.shutdown()
    assert killed
    found = rows(tmp_path / "out")
    assert [(row["id"], row["stream"]) for row in found] == [(row["id"], row["stream"]) for row in whole]
    for one, other in zip(found, whole, strict=True):
        if one["embedding"] is not None:
            np.testing.assert_allclose(one["embedding"], other["embedding"], atol=1e-5)


def test_an_unknown_engine_and_a_useless_address_are_refused(saved, cuts: list[Cut], tmp_path: Path) -> None:
    with pytest.raises(SeparativeError, match="engine 'spark'"):
        embed_corpus(saved, cuts, tmp_path / "out", engine="spark")
    with pytest.raises(SeparativeError, match="valid with the engine 'ray' only, not with 'local': 'auto'"):
        embed_corpus(saved, cuts, tmp_path / "out", address="auto")


@pytest.mark.parametrize("content", ["[]", "3", "null", '"plan"', "{", "\x00\x01"])
def test_a_damaged_plan_is_refused_and_finished_parts_are_kept(
    saved, cuts: list[Cut], tmp_path: Path, content: str
) -> None:
    embed_corpus(saved, cuts, tmp_path / "out", part_size=5)
    before = rows(tmp_path / "out")
    (tmp_path / "out" / "plan.json").write_text(content)
    with pytest.raises(SeparativeError, match=r"plan.json"):
        embed_corpus(saved, cuts, tmp_path / "out", part_size=5)
    assert rows(tmp_path / "out") == before

"""Several processes compute what a single process would, and none of them is left waiting."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from torch.distributed import DistBackendError

from separative.corpora.manifest import Corpus
from separative.distributed import ProcessGroup, local_range
from separative.errors import RecipeError, SeparativeError
from separative.model import load_model
from separative.model.teacher import Teacher, TeacherVectors
from separative.training import Recipe, train
from separative.training.folder import lock_folder
from separative.training.loop import check_groups
from separative.training.run import _report_failures as report_failures

# Seconds after which a child process counts as hung; far more than a busy machine needs.
HANG = 600
PER_STEP = 1e-4
STEPS = 50
SCRIPT = """
import atexit, json, os, signal, sys
from pathlib import Path
from torch import distributed
from separative.corpora.manifest import Corpus, Utterance
from separative.errors import SeparativeError
from separative.model.teacher import TeacherVectors
from separative.training import load_recipe, train

# Runs last before the interpreter exits. The threads of the process group must have ended by then.
atexit.register(lambda: os._exit(3) if distributed.is_initialized() else None)
settings = json.loads(sys.argv[1])
if "teacher" in settings:
    settings["teacher"] = TeacherVectors.load(settings["teacher"])
utterances = [Utterance(id, Path(path), 2.0, speaker=name) for id, path, name in settings.pop("speech")]
speech = Corpus(tuple(utterances))
try:
    train(load_recipe(settings.pop("recipe")), corpus=speech, device="cpu", **settings)
except SeparativeError:
    os.kill(os.getpid(), signal.SIGKILL)  # as a launcher may do before the traceback is written
"""


@pytest.fixture(scope="module")
def plan(recipe: Callable[..., Recipe]) -> Recipe:
    # Without dropout, which every process draws for itself. Curriculum and views are as in a real run.
    stages = [
        {"step": 0, "views": 1, "speakers": [0.5, 0.5]},
        {"step": 20, "views": 2, "speakers": [0.2, 0.8]},
    ]
    return recipe(
        model={"dropout": 0.0},
        mixtures={"stages": stages, "speeds": [0.9, 1.0, 1.1]},
        run={"log_every": 1, "steps": STEPS, "checkpoint_minutes": 60.0},
    )


def command(plan: Recipe, speech: Corpus, folder: Path, **settings: object) -> list[str]:
    (folder / "plan.yaml").write_text(json.dumps(plan.model_dump(mode="json")))
    (folder / "script.py").write_text(SCRIPT)
    settings |= {
        "recipe": str(folder / "plan.yaml"),
        "cache": str(folder / "cache"),
        "speech": [(u.id, str(u.path), u.speaker) for u in speech],
    }
    return [str(folder / "script.py"), json.dumps(settings, default=str)]


Start = Callable[[int, list[str]], "subprocess.Popen[str]"]


@pytest.fixture
def launch() -> Iterator[Start]:
    """Start a number of processes with torchrun; all of them end with the test."""
    children: list[subprocess.Popen[str]] = []

    def start(count: int, words: list[str]) -> subprocess.Popen[str]:
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(count), "--master-port", "0"]
        children.append(
            subprocess.Popen(
                [sys.executable, *launcher, "--standalone", *words],
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
                start_new_session=True,
            )
        )
        return children[-1]

    yield start
    for child in children:
        # The launcher passes the signal on to its processes and waits for them.
        child.terminate()
        child.communicate(timeout=HANG)


def read_log(folder: Path) -> dict[int, dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line for line in lines}


def test_two_processes_equal_one(plan: Recipe, corpus: Corpus, launch: Start, tmp_path: Path) -> None:
    speech = corpus.split("train")
    child = launch(2, command(plan, speech, tmp_path, out=tmp_path / "two", steps=STEPS))
    whole = train(plan, corpus=speech, out=tmp_path / "one", cache=tmp_path / "cache", device="cpu")
    _, err = child.communicate(timeout=HANG)
    assert child.returncode == 0, err
    one, two = read_log(whole), read_log(tmp_path / "two")
    assert one.keys() == two.keys() == set(range(1, STEPS + 1))
    for step in one:
        for name in ("loss", "csc_query", "csc_attended", "separation_db", "activity", "gradient", "alpha"):
            assert two[step][name] == pytest.approx(one[step][name], rel=PER_STEP, abs=PER_STEP), (step, name)
    # The checkpoint of two processes has the same tensors, including all rows of the inventory.
    ours, theirs = (load_file(tmp_path / run / "checkpoint.safetensors") for run in ("one", "two"))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert theirs[name].shape == tensor.shape, name
        # Only the inventory: the gradient of attention key biases is rounding error, which AdamW amplifies.
        if tensor.is_floating_point() and "inventory" in name:
            assert (theirs[name] - tensor).abs().max() < 100 * PER_STEP, name

    # One process resumes the run of two processes, and two resume the run of one.
    more = STEPS + 4
    child = launch(2, command(plan, speech, tmp_path, out=tmp_path / "one", steps=more, resume=True))
    train(
        plan,
        corpus=speech,
        out=tmp_path / "two",
        cache=tmp_path / "cache",
        steps=more,
        resume=True,
        device="cpu",
    )
    _, err = child.communicate(timeout=HANG)
    assert child.returncode == 0, err
    one, two = read_log(tmp_path / "one"), read_log(tmp_path / "two")
    for step in range(STEPS + 1, more + 1):
        assert two[step]["loss"] == pytest.approx(one[step]["loss"], rel=100 * PER_STEP)
    assert load_model(tmp_path / "one").card["training"]["steps"] == more


def test_two_processes_learn_from_a_teacher_like_one(
    recipe: Callable[..., Recipe], corpus: Corpus, launch: Start, tmp_path: Path
) -> None:
    speech, steps = corpus.split("train"), 6
    teacher = Teacher(name="mine", licence="MIT", sha256="5f" * 32)
    rows = np.random.default_rng(0).normal(size=(len(speech), 20))
    vectors = TeacherVectors.from_rows(teacher, [u.id for u in speech], rows)
    plan = recipe(
        loss={"objective": "teach", "csc": 0.1}, model={"dropout": 0.0}, run={"log_every": 1, "steps": steps}
    )
    settings = {"out": tmp_path / "two", "steps": steps, "teacher": vectors.save(tmp_path / "vectors.npz")}
    child = launch(2, command(plan, speech, tmp_path, **settings))
    cache = tmp_path / "cache"
    train(plan, corpus=speech, teacher=vectors, out=tmp_path / "one", cache=cache, device="cpu")
    _, err = child.communicate(timeout=HANG)
    assert child.returncode == 0, err
    one, two = read_log(tmp_path / "one"), read_log(tmp_path / "two")
    assert one.keys() == two.keys() == set(range(1, steps + 1))
    for step in one:
        for name in ("loss", "teach_cos_query", "teach_kl_attended", "csc_query", "gradient"):
            assert two[step][name] == pytest.approx(one[step][name], rel=PER_STEP, abs=PER_STEP), (step, name)


def test_two_processes_learn_presence_like_one(
    recipe: Callable[..., Recipe], corpus: Corpus, launch: Start, tmp_path: Path
) -> None:
    """Each compares its views with the global vectors of the other, and both have the same queue."""
    speech, steps = corpus.split("train"), 6
    plan = recipe(
        loss={"objective": "presence", "presence": {"queue": 10, "own_view": 0.5}, "csc": 0.1},
        model={"dropout": 0.0},
        run={"log_every": 1, "steps": steps},
    )
    child = launch(2, command(plan, speech, tmp_path, out=tmp_path / "two", steps=steps))
    train(plan, corpus=speech, out=tmp_path / "one", cache=tmp_path / "cache", device="cpu")
    _, err = child.communicate(timeout=HANG)
    assert child.returncode == 0, err
    one, two = read_log(tmp_path / "one"), read_log(tmp_path / "two")
    assert one.keys() == two.keys() == set(range(1, steps + 1))
    for step in one:
        for name in ("loss", "presence_query", "presence_attended_back", "csc_query", "gradient"):
            assert two[step][name] == pytest.approx(one[step][name], rel=PER_STEP, abs=PER_STEP), (step, name)
    ours, theirs = (load_file(tmp_path / run / "checkpoint.safetensors") for run in ("one", "two"))
    name = "objective/presence.identity_Q"
    assert theirs[name].tolist() == ours[name].tolist() and -1 not in ours[name]


def test_death_of_a_process_ends_the_others_with_a_message(
    plan: Recipe, corpus: Corpus, launch: Start, tmp_path: Path
) -> None:
    speech, out = corpus.split("train"), tmp_path / "run"
    quick = plan.model_copy(update={"run": plan.run.model_copy(update={"checkpoint_minutes": 1e-9})})
    child = launch(2, command(quick, speech, tmp_path, out=out, steps=10**6))
    deadline = time.monotonic() + HANG
    while not (out / "checkpoint.safetensors").exists() or len(read_log(out)) < 5:
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    workers = subprocess.run(
        ["pgrep", "-P", str(child.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(workers) == 2
    os.kill(int(workers[-1]), signal.SIGKILL)
    _, err = child.communicate(timeout=HANG)
    assert child.returncode != 0
    assert "lost the connection to the others" in err and "the last checkpoint is intact" in err
    step = max(read_log(out))
    train(quick, corpus=speech, out=out, cache=tmp_path / "cache", steps=step + 3, resume=True, device="cpu")
    assert max(read_log(out)) == step + 3


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (DistBackendError("NCCL communicator was aborted on rank 0"), True),
        (RuntimeError("[/third_party/gloo/gloo/transport/pair.cc:534] Connection closed by peer"), True),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed"), False),
    ],
)
def test_only_errors_of_the_connection_are_called_a_lost_connection(
    tmp_path: Path, error: RuntimeError, lost: bool
) -> None:
    two = ProcessGroup()
    two.world_size = 2
    with pytest.raises(SeparativeError if lost else RuntimeError) as raised, report_failures(two, tmp_path):
        raise error
    assert ("lost the connection" in str(raised.value)) == lost
    assert (raised.value is error) == (not lost)


def test_all_processes_leave_a_folder_that_another_run_uses(
    plan: Recipe, corpus: Corpus, launch: Start, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with lock_folder(out, ProcessGroup()):
        child = launch(2, command(plan, corpus.split("train"), tmp_path, out=out, steps=STEPS))
        # The script ends with this signal if the package raises its own error.
        _, err = child.communicate(timeout=HANG)
        assert child.returncode != 0 and "Signal 9" in err
        assert [path.name for path in out.iterdir()] == [".lock"]
    assert not out.exists()


def test_uneven_division_of_condition_groups_is_an_error(plan: Recipe) -> None:
    three = ProcessGroup()
    three.world_size = 3
    with pytest.raises(RecipeError, match="8 condition groups per step, which 3 processes cannot divide"):
        check_groups(plan, three)
    assert [len(local_range(10, three))] == [3]

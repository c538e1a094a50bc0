"""Connects a teacher's vectors with a run: targets of every batch, and the first rows of the inventory."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from separative.errors import CorpusError, ModelError, RecipeError
from separative.mixtures import Batch, Mixer
from separative.model import Card
from separative.model.teacher import TeacherVectors
from separative.names import name_at_speed
from separative.objectives import Inventory, TeachObjective, objective_class

if TYPE_CHECKING:
    from separative.training.learner import Learner
    from separative.training.recipe import Recipe

log = logging.getLogger(__name__)


class TeacherTargets:
    """The teacher's vectors of the training recordings, in the embedding space.

    Args:
        ids: id of the utterance of each row.
        rows: the vectors [R,E], unit norm.

    >>> targets = TeacherTargets(["a", "b"], torch.eye(2))
    >>> targets.mean({"a": 3.0, "b": 4.0})
    tensor([0.6000, 0.8000])
    >>> targets.mean({"a": 3.0, "c": 4.0}) is None
    True
    """

    def __init__(self, ids: list[str], rows: Tensor) -> None:
        self.rows = rows
        self._place = {name: place for place, name in enumerate(ids)}

    def __contains__(self, name: str) -> bool:
        return name in self._place

    def mean(self, weights: dict[str, float]) -> Tensor | None:
        """Weighted mean of the vectors of utterances [E] at unit norm; None if one of them has no vector."""
        if not weights or any(name not in self._place for name in weights):
            return None
        weight_K = torch.tensor(list(weights.values()), dtype=self.rows.dtype)
        return F.normalize(weight_K @ self.rows[[self._place[name] for name in weights]], dim=0)

    def __call__(self, batch: Batch) -> Tensor:
        """Target of each source [B,C,E]: the mean over its crops, weighted by length; zeros if it has none.

        Speech at another speed is another voice: it has a target if the teacher has embedded it.
        """
        target_BCE = torch.zeros(*batch.identities.shape, self.rows.shape[1])
        for row, info in enumerate(batch.info):
            for column, source in enumerate(info["sources"]):
                weights: dict[str, float] = {}
                for crop in source["crops"]:
                    name = name_at_speed(crop["utterance"], source["speed"])
                    weights[name] = weights.get(name, 0.0) + crop["samples"]
                mean_E = self.mean(weights)
                if mean_E is not None:
                    target_BCE[row, column] = mean_E
        return target_BCE


def check_teacher(recipe: Recipe, teacher: TeacherVectors | None) -> None:
    """Check that vectors are given if, and only if, the objective needs them.

    Raises:
        RecipeError: they are missing or have no effect.

    >>> from separative.training import parse_recipe
    >>> check_teacher(parse_recipe({"loss": {"objective": "teach"}}, "example"), None)
    Traceback (most recent call last):
    separative.errors.RecipeError: the objective 'teach' needs a teacher's vectors: make them with ...
    """
    name, needed = recipe.loss.objective, objective_class(recipe.loss).needs_teacher
    if needed and teacher is None:
        raise RecipeError(
            f"the objective '{name}' needs a teacher's vectors: make them with `separative teach` and pass"
            " --vectors FILE"
        )
    if teacher is not None and not needed:
        raise RecipeError(
            f"a teacher's vectors have no effect on the objective '{name}': leave --vectors out, or set"
            " loss.objective to teach"
        )


def check_space(card: Card, teacher: TeacherVectors | None) -> None:
    """Check that a model to start from is in no teacher's space, or in that of the given teacher.

    Args:
        card: card of the model.
        teacher: the vectors that the run learns from, if any.

    Raises:
        ModelError: it is in the space of another teacher.

    >>> check_space({"space": {"name": "CAM++", "sha256": "5f" * 32}}, None)
    Traceback (most recent call last):
    separative.errors.ModelError: the model to start from is in the space of the teacher 'CAM++': ...
    """
    space = card.get("space")
    if space and (teacher is None or teacher.teacher.sha256 != space.get("sha256")):
        raise ModelError(
            f"the model to start from is in the space of the teacher '{space.get('name')}': train it with the"
            " objective teach and vectors of that teacher"
        )


def prepare_targets(
    learner: Learner, mixer: Mixer, teacher: TeacherVectors, *, fit: bool = True
) -> TeacherTargets:
    """Put the learner's model into the teacher's space, and give its objective the teacher's vectors.

    Args:
        learner: its model has a space for vectors of this size.
        mixer: draws the mixtures.
        teacher: vectors by id of the utterance. Vectors of other utterances are not used.
        fit: False keeps the space of the model, which comes from a checkpoint or another model.

    Raises:
        CorpusError: no training utterance has a vector.

    >>> from separative import load_corpus
    >>> from separative.model.teacher import Teacher
    >>> from separative.training import machine, parse_recipe
    >>> from separative.training.learner import Learner
    >>> sizes = {"width": 16, "speaker_width": 16, "embedding": 4, "shared_blocks": 1}
    >>> content = {"model": sizes, "mixtures": {"batch": 2}, "loss": {"objective": "teach"}}
    >>> recipe, corpus = parse_recipe(content, "example"), load_corpus("speech")
    >>> teacher = Teacher(name="mine", licence="MIT", sha256="5f" * 32)
    >>> vectors = TeacherVectors.from_rows(teacher, [u.id for u in corpus], np.eye(len(corpus)))
    >>> mixer = Mixer(corpus, recipe.mixtures, seed=0)
    >>> learner = Learner(recipe, len(mixer.identities), machine.launch("cpu"), teacher=vectors.dimension)
    >>> targets = prepare_targets(learner, mixer, vectors)
    >>> targets(mixer.batch(0)).shape, len(targets.rows) == len(corpus)
    (torch.Size([2, 2, 4]), True)
    """
    space = learner.model.space
    assert space is not None and isinstance(learner.objective, TeachObjective)
    utterances = [u for source in (*mixer.pool.utterances, *mixer.pool.unlabelled) for u in source]
    place = {name: row for row, name in enumerate(teacher.ids)}
    voices = {name_at_speed(u.id, speed): u.seconds for u in utterances for speed in mixer.config.speeds}
    known = {name: seconds for name, seconds in voices.items() if name in place}
    if not known:
        raise CorpusError(
            f"none of the {len(voices)} training utterances has a vector of the teacher: its file has"
            f" other ids, such as '{teacher.ids[0]}'; make it with `separative teach` from this corpus"
        )
    if len(known) < len(voices):
        log.warning(
            "%d of %d training utterances have no vector of the teacher and are not taught",
            len(voices) - len(known),
            len(voices),
        )
    vector_RT = teacher.vectors[[place[name] for name in known]]
    if fit:
        # Weighted by length: a corpus of many short words would otherwise determine centre and axes.
        space.fit(vector_RT, np.array(list(known.values())))
        if learner.average.space is not None:
            learner.average.space.load_state_dict(space.state_dict())
    row_RE = space(torch.from_numpy(vector_RT).to(space.mean_T)).cpu()
    learner.objective.set_teacher(row_RE)
    return TeacherTargets(list(known), row_RE)


@torch.no_grad()
def teach_inventory(inventory: Inventory, mixer: Mixer, targets: TeacherTargets) -> None:
    """Set each row to the mean of the teacher's vectors of its identity, weighted by length.

    The lengths of rows are kept. Rows of identities without vectors do not change.

    >>> from separative import MixtureConfig, load_corpus
    >>> mixer = Mixer(load_corpus("speech"), MixtureConfig(batch=2), seed=0)
    >>> ids = [utterance.id for utterances in mixer.pool.utterances for utterance in utterances]
    >>> inventory = Inventory(identities=len(mixer.identities), embedding=8)
    >>> teach_inventory(inventory, mixer, TeacherTargets(ids, torch.eye(8)[:1].expand(len(ids), 8)))
    >>> inventory.unit_rows[:, 0]
    tensor([1., 1., 1., 1.], grad_fn=...)
    """
    speeds = mixer.config.speeds
    for own, identity in enumerate(inventory.rows):
        source, speed = divmod(identity, len(speeds))
        lengths = {name_at_speed(u.id, speeds[speed]): u.seconds for u in mixer.pool.utterances[source]}
        mean_E = targets.mean({name: length for name, length in lengths.items() if name in targets})
        if mean_E is not None:
            row_E = inventory.row_PE[own]
            row_E.copy_(mean_E.to(row_E) * row_E.norm())

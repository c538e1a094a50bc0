"""What a user can get wrong, as one small family of exceptions.

Every message is one sentence that names the file or key and the valid choices.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError


class SeparativeError(ValueError):
    """Base of every error that a user can cause and cure; always one printable line, whatever it quotes."""

    def __str__(self) -> str:
        return "".join(c if c.isprintable() else " " for c in super().__str__())


class AudioError(SeparativeError):
    """A sound file that cannot be read or written; names the file."""


class CorpusError(SeparativeError):
    """A corpus that cannot be read or is unfit for the job; names the file or speaker."""


class RecipeError(SeparativeError):
    """A recipe with an unknown key or an invalid value; names the key and the valid choices."""


class ModelError(SeparativeError):
    """A model folder that is missing, damaged or of another architecture; names the file."""


class GalleryError(SeparativeError):
    """A gallery that is missing, damaged or of another model, or a speaker it does not hold or take."""


class UnknownSpeakerError(GalleryError):
    """A speaker whom a gallery does not hold; names both."""


class NotEnrolledError(GalleryError):
    """A recording that is not good enough to enrol a speaker with, and the ``reasons`` why."""

    def __init__(self, source: str, reasons: tuple[str, ...]) -> None:
        self.reasons = reasons
        super().__init__(f"{source}: not enrolled: {'; '.join(reasons)}")


class LossError(SeparativeError):
    """A loss or gradient that is not finite: at ``step``, of the mixtures ``items``."""

    def __init__(self, step: int, items: list[int]) -> None:
        self.step, self.items = step, items
        super().__init__(
            f"the loss of step {step} is not finite; its mixtures are {', '.join(map(str, items))}"
        )


class MissingExtraError(SeparativeError):
    """An optional dependency that is not installed; names the extra that brings it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional extra: pip install 'separative[{extra}]'")


def choose(
    value: str, valid: Iterable[str], what: str, error: type[SeparativeError] = SeparativeError
) -> str:
    """Return ``value`` if it is one of ``valid``; else raise ``error`` naming the nearest and all choices."""
    names = sorted(valid)
    if value in names:
        return value
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    raise error(f"unknown {what} '{value}'{hint}; valid: {', '.join(names)}")


def sentence(error: ValidationError, root: type[BaseModel]) -> str:
    """The first problem as one sentence; for an unknown key of ``root``, the nearest valid one."""
    first, key = error.errors()[0], key_of(error)
    if first["type"] == "extra_forbidden":
        valid = _fields(root, first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), valid, n=1, cutoff=0.4)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        return f"unknown key '{key}'{hint}; valid: {', '.join(sorted(valid))}"
    message = first["msg"].removeprefix("Value error, ")
    return f"'{key}': {message}" if key else message


def key_of(error: ValidationError) -> str:
    """The key that the first problem of a section is with, a.b for one inside another."""
    return ".".join(str(part) for part in error.errors()[0]["loc"])


def _fields(root: type[BaseModel], where: tuple[int | str, ...]) -> list[str]:
    """Valid keys of the section at ``where``."""
    section: Any = root
    for part in where:
        if isinstance(part, int):
            continue
        annotation = section.model_fields[part].annotation
        # A tuple of sections (the stages of the curriculum) has the section as its first argument.
        section = annotation if hasattr(annotation, "model_fields") else annotation.__args__[0]
    return list(section.model_fields)

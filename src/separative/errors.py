"""Exceptions for errors that a user can cause and correct.

Every message is one sentence that names the file or the key, and the valid choices where there are some.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

# A word of a message that is longer is a value from a damaged file.
LONGEST_WORD = 500


class SeparativeError(ValueError):
    r"""Base class of all errors that a user can cause and correct.

    ``str()`` gives one printable line: control characters, which a quoted file may contain, become spaces.
    The middle of a very long word, which comes from a damaged file, is left out.
    Bytes of a file name that are not UTF-8 become the replacement character.

    >>> str(SeparativeError("speech.csv:\nno column 'path'"))
    "speech.csv: no column 'path'"
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def printable(text: str) -> str:
    r"""Make one printable line of a message; see :class:`SeparativeError` for the rules.

    >>> printable("b\udce9.wav:\tnot audio")
    'b�.wav: not audio'
    """
    line = "".join(map(_printable_character, text[: 100 * LONGEST_WORD]))
    return re.sub(rf"\S{{{LONGEST_WORD},}}", lambda word: f"{word[0][:100]}...{word[0][-20:]}", line)


def _printable_character(character: str) -> str:
    if character.isprintable():
        return character
    return "\ufffd" if "\ud800" <= character <= "\udfff" else " "


class AudioError(SeparativeError):
    """An audio file cannot be read or written; the message names the file.

    >>> from separative import audio
    >>> audio.read("missing.wav")
    Traceback (most recent call last):
    separative.errors.AudioError: missing.wav: no such file
    """


class SilentError(AudioError):
    """A recording holds no sound at all; the message names it.

    >>> import numpy as np, separative
    >>> separative.embed(separative.load_model(), (np.zeros(16000, np.float32), 16000))
    Traceback (most recent call last):
    separative.errors.SilentError: the waveform is silent throughout; an embedding needs 0.5 s of speech
    """


class CorpusError(SeparativeError):
    """A corpus cannot be read or does not fit its use; the message names the file or the speaker.

    >>> from separative import load_corpus
    >>> load_corpus("missing.csv")
    Traceback (most recent call last):
    separative.errors.CorpusError: missing.csv: no such file or folder
    """


class RecipeError(SeparativeError):
    """A recipe or plan has an unknown key or an invalid value; the message names both.

    >>> from separative import load_recipe
    >>> load_recipe("smal")
    Traceback (most recent call last):
    separative.errors.RecipeError: unknown recipe 'smal' (did you mean 'small'?); valid: ...
    """


class ModelError(SeparativeError):
    """A model folder is missing, damaged or of another architecture; the message names the file.

    >>> from separative import load_model
    >>> load_model("missing")
    Traceback (most recent call last):
    separative.errors.ModelError: ...missing...
    """


class GalleryError(SeparativeError):
    """A gallery is missing, damaged or of another model, or it refuses a speaker.

    >>> issubclass(UnknownSpeakerError, GalleryError) and issubclass(NotEnrolledError, GalleryError)
    True
    """


class GalleryBusyError(GalleryError):
    """Another process or thread is using the gallery; nothing was changed, and a later attempt may succeed.

    >>> raise GalleryBusyError("cannot write gallery.sqlite; nothing was changed (database is locked)")
    Traceback (most recent call last):
    separative.errors.GalleryBusyError: cannot write gallery.sqlite; nothing was changed (database is locked)
    """


class GalleryDamagedError(GalleryError):
    """The file of a gallery is damaged; the message names it.

    >>> raise GalleryDamagedError("voices/gallery.sqlite is damaged (checksum mismatch)")
    Traceback (most recent call last):
    separative.errors.GalleryDamagedError: voices/gallery.sqlite is damaged (checksum mismatch)
    """


class UnknownSpeakerError(GalleryError):
    """A speaker is not in the gallery; the message names the speaker and the gallery.

    >>> raise UnknownSpeakerError("gallery: no speaker 'ann'")
    Traceback (most recent call last):
    separative.errors.UnknownSpeakerError: gallery: no speaker 'ann'
    """


class NotEnrolledError(GalleryError):
    """A recording is not good enough to enrol a speaker.

    Attributes:
        reasons: one phrase for each requirement that the recording fails.

    >>> raise NotEnrolledError("ann.wav", ("1.2 s of speech, under 3 s", "clipped"))
    Traceback (most recent call last):
    separative.errors.NotEnrolledError: ann.wav: not enrolled: 1.2 s of speech, under 3 s; clipped
    """

    def __init__(self, source: str, reasons: tuple[str, ...]) -> None:
        self.reasons = reasons
        super().__init__(f"{source}: not enrolled: {'; '.join(reasons)}")


class LossError(SeparativeError):
    """The loss or a gradient is not finite.

    Attributes:
        step: training step.
        items: numbers of the mixtures in the batch of that step.

    >>> raise LossError(7, [56, 57])
    Traceback (most recent call last):
    separative.errors.LossError: the loss of step 7 is not finite; its mixtures are 56, 57
    """

    def __init__(self, step: int, items: list[int]) -> None:
        self.step, self.items = step, items
        super().__init__(
            f"the loss of step {step} is not finite; its mixtures are {', '.join(map(str, items))}"
        )


class MissingExtraError(SeparativeError):
    """An optional dependency is not installed; the message names the extra that installs it.

    >>> raise MissingExtraError("the server", "serve")
    Traceback (most recent call last):
    separative.errors.MissingExtraError: the server needs an optional extra: pip install 'separative[serve]'
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional extra: pip install 'separative[{extra}]'")


def choose(
    value: str, valid: Iterable[str], what: str, error: type[SeparativeError] = SeparativeError
) -> str:
    """Return ``value`` if it is valid; otherwise raise an error that names the nearest and all valid values.

    Args:
        valid: the valid values.
        what: what the value is, for the message.
        error: class of the exception.

    >>> choose("stft", ["conv", "stft"], "front end")
    'stft'
    >>> choose("stf", ["conv", "stft"], "front end")
    Traceback (most recent call last):
    separative.errors.SeparativeError: unknown front end 'stf' (did you mean 'stft'?); valid: conv, stft
    """
    names = sorted(valid)
    if value in names:
        return value
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    raise error(f"unknown {what} '{value}'{hint}; valid: {', '.join(names)}")


def validation_message(error: ValidationError, root: type[BaseModel]) -> str:
    """Return the first problem of a validation error of ``root`` as one sentence.

    For an unknown key, the sentence names the nearest valid key and all valid keys.

    >>> from pydantic import ValidationError
    >>> from separative import MixtureConfig
    >>> try:
    ...     MixtureConfig.model_validate({"rate": 8000, "second": 4.0})
    ... except ValidationError as error:
    ...     validation_message(error, MixtureConfig)[:49]
    "unknown key 'second' (did you mean 'seconds'?); v"
    """
    first, key = error.errors()[0], validation_key(error)
    if first["type"] == "extra_forbidden":
        valid = _fields(root, first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), valid, n=1, cutoff=0.4)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        return f"unknown key '{key}'{hint}; valid: {', '.join(sorted(valid))}"
    message = first["msg"].removeprefix("Value error, ")
    return f"'{key}': {message}" if key else message


def validation_key(error: ValidationError) -> str:
    """Return the key of the first problem of a validation error, with a dot before the key of a section.

    >>> from pydantic import ValidationError
    >>> from separative import MixtureConfig
    >>> try:
    ...     MixtureConfig.model_validate({"stages": [{"steps": -1}]})
    ... except ValidationError as error:
    ...     validation_key(error)
    'stages.0.steps'
    """
    return ".".join(str(part) for part in error.errors()[0]["loc"])


def _fields(root: type[BaseModel], where: tuple[int | str, ...]) -> list[str]:
    """Return the valid keys of the section at ``where``."""
    section: Any = root
    for part in where:
        if isinstance(part, int):
            continue
        annotation = section.model_fields[part].annotation
        # For a tuple of sections, such as the stages of the curriculum, the section is its first argument.
        section = annotation if hasattr(annotation, "model_fields") else annotation.__args__[0]
    return list(section.model_fields)

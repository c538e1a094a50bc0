"""The card of a model: its entries, and the digest that covers card and weights.

``digest`` is the SHA-256 of the bytes of ``model.json``, with the 64 digits of the digest itself replaced by
zeros. ``sha256`` is that of the bytes of ``model.safetensors``, and is part of the card. So ``digest`` covers
all of both files. ``sha256`` alone identifies what computes the embeddings: galleries are bound to it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from separative.errors import ModelError, validation_message
from separative.files import parse_json, replace_file
from separative.model.config import EncoderConfig

FORMAT = 2
# A card holds the names of all training speakers; this is enough for a million of them.
MAX_CARD_BYTES = 64 << 20
_ZEROS = "0" * 64

Card = dict[str, Any]
"""What a user of a model must know: architecture, checksum of the weights, recipe, data, metrics."""

Numbers = TypeVar("Numbers")


class _Section(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class _Data(_Section):
    # Not list[str]: pydantic refuses names with bytes that are not UTF-8, which folder names may have.
    speakers: list[Any] = []

    @field_validator("speakers")
    @classmethod
    def _check_names(cls, speakers: list[Any]) -> list[Any]:
        if not all(isinstance(name, str) for name in speakers):
            raise ValueError("every name must be a text")
        return speakers


class _Loss(_Section):
    objective: str = "csc"
    activity: float = 1.0


class _Recipe(_Section):
    name: str | None = None
    loss: _Loss = _Loss()


class _Calibration(_Section):
    # Strict, because they are used as they are in the card: a text is not a number.
    scale: float = Field(default=1.0, gt=0, strict=True)
    offset: float = Field(default=0.0, strict=True)
    conditions: list[str] = []
    seconds: float = Field(default=0.0, strict=True)
    speakers: int = Field(default=0, strict=True)


class _Space(_Section):
    name: str
    licence: str
    sha256: str
    dimension: int
    projection: str


class _Entries(_Section):
    """The entries of a card that the package reads. All others may be anything."""

    architecture: EncoderConfig
    sha256: str
    parameters: int = 0
    identity: str | None = None
    data: _Data = _Data()
    recipe: _Recipe = _Recipe()
    calibration: _Calibration | None = None
    space: _Space | None = None
    same: float = Field(default=0.0, strict=True)
    training: dict[str, Any] = {}
    metrics: dict[str, Any] = {}


def check_card(card: Card, where: str | Path) -> EncoderConfig:
    """Check the types and values of the entries that the package reads, and return the architecture.

    Args:
        card: the entries.
        where: the file or folder, for the error message.

    Raises:
        ModelError: an entry is missing or invalid; the message names its key.

    >>> check_card({"architecture": {"width": 60_000}, "sha256": ""}, "model.json")
    Traceback (most recent call last):
    separative.errors.ModelError: model.json: this version cannot read the model: 'architecture.width': ...
    """
    try:
        return _Entries.model_validate(card).architecture
    except ValidationError as error:
        raise ModelError(
            f"{where}: this version cannot read the model: {validation_message(error, _Entries)}"
        ) from error


def read_card(path: Path) -> tuple[Card, EncoderConfig]:
    """Read a card: its entries without the digest, and the architecture.

    Raises:
        ModelError: the file is missing, changed, damaged, or of another format; the message names it.

    >>> from separative.model.files import SHIPPED
    >>> card, architecture = read_card(SHIPPED / "base" / "model.json")
    >>> card["parameters"] == architecture.parameters
    True
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CARD_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{path} is not a model card: {error.strerror}") from error
    if len(content) > MAX_CARD_BYTES:
        raise ModelError(f"{path} is not a model card: it is larger than {MAX_CARD_BYTES >> 20} MiB")
    card = parse_json(content, f"{path} is not a model card", ModelError)
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ModelError(
            f"{path} is not a model card of format {FORMAT}; copy it again, or make the model again with this"
            " version"
        )
    digest = card.pop("digest", None)
    if not isinstance(digest, str) or _digest(content, digest) != digest:
        raise ModelError(
            f"{path}: checksum mismatch: the card was changed or is damaged; copy or download the model again"
            " (entries are set with separative.model.update_card)"
        )
    return card, check_card(card, path)


def card_numbers(card: Card, key: str, kind: type[Numbers], cure: str = "") -> Numbers:
    """Make a dataclass of numbers from an entry of a card; its defaults where there is no entry.

    Args:
        cure: end of the error message.

    Raises:
        ModelError: the entry has other keys, or not only numbers.

    >>> from dataclasses import make_dataclass
    >>> rule = make_dataclass("Rule", [("low", float, 0.0), ("high", float, 1.0)])
    >>> card_numbers({"rule": {"high": 2}}, "rule", rule)
    Rule(low=0.0, high=2.0)
    >>> card_numbers({"rule": {"middle": 2}}, "rule", rule)
    Traceback (most recent call last):
    separative.errors.ModelError: model card: 'rule' must hold the numbers low and high
    """
    try:
        return kind(**{name: float(value) for name, value in card.get(key, {}).items()})
    except (AttributeError, TypeError, ValueError) as error:
        *names, last = (field.name for field in fields(kind))  # type: ignore[arg-type]
        raise ModelError(
            f"model card: '{key}' must hold the numbers {', '.join(names)} and {last}{cure}"
        ) from error


def write_card(path: Path, card: Card) -> None:
    """Write a card with its digest.

    Raises:
        ModelError: an entry is invalid, or cannot be written as JSON.

    >>> from separative.model.files import SHIPPED
    >>> card, _ = read_card(SHIPPED / "base" / "model.json")
    >>> write_card(Path("model.json"), card)
    >>> Path("model.json").read_bytes() == (SHIPPED / "base" / "model.json").read_bytes()
    True
    """
    check_card(card, path)
    # The digest comes second: people look for the format and the architecture first.
    record = {"format": FORMAT, "digest": _ZEROS} | {k: v for k, v in card.items() if k != "digest"}
    try:
        content = (json.dumps(record | {"format": FORMAT}, indent=1) + "\n").encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: the card cannot be written as JSON: {error}") from error
    digest = _digest(content, _ZEROS)
    replace_file(path, content.replace(_ZEROS.encode(), digest.encode(), 1))


def _digest(content: bytes, digest: str) -> str:
    """SHA-256 of the bytes of a card in which the first occurrence of ``digest`` is replaced by zeros."""
    masked = content.replace(digest.encode("utf-8", "surrogatepass"), _ZEROS.encode(), 1)
    return hashlib.sha256(masked).hexdigest()

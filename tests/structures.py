"""Valid documents in which values are replaced by other types and extremes, determined by a seed."""

import json
import random
from collections.abc import Iterator
from typing import Any

# As JSON text, because some of them have no Python value.
STRANGE = (
    *("null", "true", "false", "0", "1", "-1", "1.5", "-0.0", "1e308", "1e400", "-1e400", "NaN", "Infinity"),
    *(
        "9" * 400,
        "9" * 5000,
        "-" + "9" * 5000,
        '""',
        '"x"',
        '"1.0"',
        '"/"',
        '".."',
        '"a\\u0000b"',
        '"\\ud800"',
    ),
    *(
        '"\\u202e\\n"',
        f'"{"x" * 10_000}"',
        "[]",
        "[[]]",
        "[1]",
        '["x"]',
        "[null]",
        "{}",
        '{"": {}}',
        '{"id": 1}',
    ),
    *("[" * 50_000 + "]" * 50_000, '{"a":' * 5000 + "1" + "}" * 5000, "[" + "0," * 5000 + "0]"),
)
HOLE = "\x01hole\x01"


def places(document: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to every value of a JSON document."""
    yield above
    items = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document if type(document) is list else ())
    )
    for key, value in items:
        yield from places(value, (*above, key))


def variant(document: Any, seed: int) -> str:
    """Return a document as JSON text with one to three changes: a strange value, a lost or another key."""
    rng, filling = random.Random(seed), []
    document = json.loads(json.dumps(document))
    for _ in range(rng.randint(1, 3)):
        path = rng.choice([*places(document)][1:] or [()])
        if not path:
            return rng.choice(STRANGE)
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        match rng.randrange(6):
            case 0:
                del parent[path[-1]]
            case 1 if isinstance(parent, dict):
                parent[rng.choice(["", "x", "start", "__class__"])] = parent.pop(path[-1])
            case 2:
                parent[path[-1]] = [parent[path[-1]]]
            case _:
                parent[path[-1]] = f"{HOLE}{len(filling)}"
                filling.append(rng.choice(STRANGE))
    text = json.dumps(document)
    for number, strange in enumerate(filling):
        text = text.replace(json.dumps(f"{HOLE}{number}"), strange)
    return text

"""The page: everything inline, nothing fetched, readable on a phone and in the dark."""

from __future__ import annotations

import base64
import io
import wave as wavefile
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from separative.evaluation.results import LOWER_IS_BETTER, Results, Row, eer_figure, title
from separative.files import replace_file
from separative.report.figures import (
    curves_figure,
    find_log,
    picture,
    read_curves,
    spectrogram_db,
    spectrogram_figure,
)
from separative.report.portrait import portrait_html
from separative.report.style import STYLE

if TYPE_CHECKING:
    from separative.evaluation.portrait import Portrait


@dataclass(frozen=True)
class Sample:
    """A sound to see and hear: float waveform ``wave_N`` at ``rate`` hertz."""

    title: str
    wave_N: NDArray[np.float32]
    rate: int


def write_report(
    path: str | Path,
    *,
    heading: str = "A separative encoder, trained and tested",
    results: str | Path | None = None,
    run: str | Path | None = None,
    portrait: Portrait | None = None,
    samples: Sequence[Sample] = (),
) -> Path:
    """Write one self-contained HTML file, whole or not at all.

    Args:
        results: ``results.json`` of an evaluation, or its folder: key figures, tables, EER by condition.
        run: a training log in JSON lines, or the folder that holds it: curves.
        portrait: of a model: likeness of speakers, a map of them, what the cross-attention looks at.
        samples: a mixture, its separated speakers and its sources, say: spectrograms and players, in order.

    Raises:
        SeparativeError: results or log missing or malformed.
    """
    parts = []
    if results is not None:
        parts.append(_results(Results.load(results)))
    if run is not None:
        axis, curves = read_curves(find_log(run))
        parts.append(f"<h2>Training</h2>{picture(curves_figure(axis, curves), 'Training curves')}")
    if portrait is not None:
        parts.append(portrait_html(portrait))
    if samples:
        parts.append(_samples(samples))
    replace_file(path, whole_page(heading, "".join(parts)).encode())
    return Path(path)


def whole_page(heading: str, body: str) -> str:
    """The HTML of a page around its parts."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(heading)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{escape(heading)}</h1>{body}</body></html>\n"
    )


def _results(results: Results) -> str:
    first = results.rows[0]
    settings = results.settings
    words = [f"{settings['speakers']} speakers never trained on"] if "speakers" in settings else []
    words += [f"{key} {settings[key]}" for key in ("split", "enrol", "seconds", "seed") if key in settings]
    parts = [f"<p>{escape(' · '.join(words))} · 95 % intervals by bootstrap over speakers</p>", _key(results)]
    parts.append("<h2>Error rate by condition</h2>")
    parts.append(picture(eer_figure(results), "Equal error rate by condition, with intervals"))
    tables: dict[tuple[str, str], list[Row]] = {}
    for row in results.rows:
        tables.setdefault((row.metric, row.corpus), []).append(row)
    for (metric, corpus), rows in tables.items():
        parts.append(f"<h3>{escape(title(metric, corpus, settings))}</h3>{html_table(rows)}")
        if (metric, corpus) == ("EER", first.corpus):
            parts.append("<p>Best of each column in bold; trials within one corpus only.</p>")
    return "".join(parts)


def _key(results: Results) -> str:
    """The figures the project exists for, of the first model beside the others."""
    first = results.rows[0]
    cards = []
    for metric, condition, words in (
        ("EER", "clean", "equal error rate, clean"),
        ("EER", "overlap0", "equal error rate, one other speaker as loud"),
        ("SI-SDRi", "overlap0", "SI-SDR improvement, two speakers"),
        ("MI", "overlap0", "identity in a separated speaker"),
    ):
        rows = [
            r for r in results.rows if (r.metric, r.condition, r.corpus) == (metric, condition, first.corpus)
        ]
        if rows:
            unit = {"EER": "%", "SI-SDRi": "dB", "MI": "nats"}[metric]
            others = ", ".join(f"{r.model} {r.value:.1f}" for r in rows[1:] if r.model != first.model)
            below = f"<p>{escape(others)}</p>" if others else ""
            cards.append(f"<div><b>{rows[0].value:.1f} {unit}</b>{escape(words)}{below}</div>")
    return f'<div class="key">{"".join(cards)}</div>'


def html_table(rows: Sequence[Row]) -> str:
    """Rows of one metric: a line per model, a column per condition, the best of each in bold."""
    conditions = list(dict.fromkeys(row.condition for row in rows))
    by = {(row.model, row.condition): row for row in rows}
    choose = min if rows[0].metric in LOWER_IS_BETTER else max
    best = {c: choose(row.value for row in rows if row.condition == c) for c in conditions}
    lines = ["<tr><th>model</th>" + "".join(f"<th>{escape(c)}</th>" for c in conditions) + "</tr>"]
    for model in dict.fromkeys(row.model for row in rows):
        cells = []
        for condition in conditions:
            row = by.get((model, condition))
            if row is None:
                cells.append("<td></td>")
                continue
            value, _, between = row.cell().partition(" ")
            value = f"<b>{value}</b>" if row.value == best[condition] else value
            cells.append(f"<td>{value}<small>{between.strip('()')}</small></td>")
        lines.append(f"<tr><td>{escape(model)}</td>{''.join(cells)}</tr>")
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _samples(samples: Sequence[Sample]) -> str:
    # One gain and one colour scale for all, so that what was quieter stays quieter.
    gain = np.float32(1 / max(1.0, *(float(np.abs(sample.wave_N).max()) for sample in samples)))
    levels = [spectrogram_db(sample.wave_N, sample.rate) for sample in samples]
    top_db = max(float(level.max()) for level in levels)
    parts = ["<h2>Hear it</h2>"]
    for sample, level_FT in zip(samples, levels, strict=True):
        figure = spectrogram_figure(level_FT, len(sample.wave_N) / sample.rate, sample.rate, top_db)
        sound = base64.b64encode(wav_bytes(sample.wave_N * gain, sample.rate)).decode()
        parts.append(
            f'<div class="sample"><h3>{escape(sample.title)}</h3>'
            f"{picture(figure, f'Spectrogram: {sample.title}')}"
            f'<audio controls preload="none" src="data:audio/wav;base64,{sound}"></audio></div>'
        )
    return "".join(parts)


def wav_bytes(wave_N: NDArray[np.float32], rate: int) -> bytes:
    """A 16-bit mono WAV file; samples within ±1."""
    buffer = io.BytesIO()
    with wavefile.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(wave_N * 32767).astype("<i2").tobytes())
    return buffer.getvalue()

"""Self-contained HTML pages from templates, and the report on a model: tables, figures and audio."""

from __future__ import annotations

import base64
import io
import wave as wavefile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from separative.drawing import render_page
from separative.evaluation.results import Results, eer_figure
from separative.files import replace_file
from separative.report.figures import (
    curves_figure,
    find_log,
    picture,
    read_curves,
    spectrogram_db,
    spectrogram_figure,
)
from separative.report.tables import results_sections
from separative.types import Wave

# Key figures at the top of a report: metric, condition, description, unit.
KEY_FIGURES = (
    ("EER", "clean", "equal error rate, clean", "%"),
    ("EER", "overlap0", "equal error rate, one interferer at 0 dB", "%"),
    ("SI-SDRi", "overlap0", "SI-SDR improvement, two speakers", "dB"),
    ("MI", "overlap0", "information on the speaker in a separated stream", "nats"),
)


@dataclass(frozen=True)
class Sample:
    """A recording to show on a page, as spectrogram and audio player.

    Attributes:
        title: heading of the sample.
        waveform: float32 samples, shape [N].
        rate: sampling rate in hertz.

    >>> Sample("a second of silence", np.zeros(16000, np.float32), 16000).title
    'a second of silence'
    """

    title: str
    waveform: Wave
    rate: int


def write_report(
    path: str | Path,
    *,
    heading: str = "A separative encoder, trained and tested",
    results: str | Path | None = None,
    run: str | Path | None = None,
    samples: Sequence[Sample] = (),
) -> Path:
    """Write a self-contained HTML page about a trained model; the file is replaced atomically.

    Args:
        path: the page to write.
        heading: title of the page.
        results: ``results.json`` of an evaluation, or its folder. Shows key figures, tables and the equal
            error rate by condition.
        run: a training log in JSON lines, or its folder. Shows training curves.
        samples: recordings, for example a mixture, its separated streams and its sources. Shows spectrograms
            and audio players in this order.

    Returns:
        ``path``.

    Raises:
        SeparativeError: the results or the log are missing or malformed.

    >>> samples = [Sample("a second of silence", np.zeros(16000, np.float32), 16000)]
    >>> page = write_report("report.html", heading="Demo", samples=samples).read_text()
    >>> "<h1>Demo</h1>" in page and "data:audio/wav;base64," in page
    True
    """
    values: dict[str, Any] = {"heading": heading, "results": None, "curves": None}
    if results is not None:
        values["results"] = _describe_results(Results.load(results))
    if run is not None:
        axis, curves = read_curves(find_log(run))
        values["curves"] = picture(curves_figure(axis, curves), "Training curves")
    replace_file(path, render_page("report.html", **values, samples=_describe_samples(samples)))
    return Path(path)


def _describe_results(results: Results) -> dict[str, Any]:
    settings = results.settings
    facts = [f"{settings['speakers']} speakers never trained on"] if "speakers" in settings else []
    facts += [f"{key} {settings[key]}" for key in ("split", "enrol", "seconds", "seed") if key in settings]
    sections = results_sections(results)
    main = ("EER", results.rows[0].corpus)
    return {
        "summary": " · ".join([*facts, "95 % intervals by bootstrap over speakers"]),
        "cards": _key_figures(results),
        "picture": picture(eer_figure(results), "Equal error rate by condition, with intervals"),
        "sections": [
            {"title": s.title, "table": s.table, "main": (s.metric, s.corpus) == main} for s in sections
        ],
    }


def _key_figures(results: Results) -> list[dict[str, str]]:
    """The key figures of the first model, and those of the other models for comparison."""
    first = results.rows[0]
    cards = []
    for metric, condition, description, unit in KEY_FIGURES:
        key = (metric, condition, first.corpus)
        rows = [row for row in results.rows if (row.metric, row.condition, row.corpus) == key]
        if rows:
            others = ", ".join(f"{r.model} {r.value:.1f}" for r in rows[1:] if r.model != first.model)
            value = f"{rows[0].value:.1f} {unit}"
            cards.append({"value": value, "description": description, "others": others})
    return cards


def _describe_samples(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    # All samples share one gain and one colour scale, so that their levels can be compared.
    gain = np.float32(1 / max(1.0, *(float(np.abs(sample.waveform).max()) for sample in samples), 0.0))
    levels = [spectrogram_db(sample.waveform, sample.rate) for sample in samples]
    top_db = max((float(level_FT.max()) for level_FT in levels), default=0.0)
    described = []
    for sample, level_FT in zip(samples, levels, strict=True):
        seconds = len(sample.waveform) / sample.rate
        figure = spectrogram_figure(level_FT, seconds, sample.rate, top_db)
        content = base64.b64encode(_wav_bytes(sample.waveform * gain, sample.rate)).decode()
        described.append(
            {
                "title": sample.title,
                "picture": picture(figure, f"Spectrogram: {sample.title}"),
                "audio_url": f"data:audio/wav;base64,{content}",
            }
        )
    return described


def _wav_bytes(wave_N: Wave, rate: int) -> bytes:
    """A 16-bit mono WAV file; samples within ±1."""
    buffer = io.BytesIO()
    with wavefile.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(wave_N * 32767).astype("<i2").tobytes())
    return buffer.getvalue()

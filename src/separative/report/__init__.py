"""Self-contained HTML pages: the report on a model, the benchmark table, the timeline of a recording."""

from separative.report.page import Sample, write_report

__all__ = ["Sample", "write_report"]

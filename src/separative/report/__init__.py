"""One self-contained page about a trained model: figures in the table, in pictures and to listen to."""

from separative.report.page import Sample, write_report

__all__ = ["Sample", "write_report"]

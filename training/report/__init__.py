"""The report on a training run: one HTML file with curves, comparisons and contact sheets."""

from training.report.contents import Report
from training.report.page import write_report

__all__ = ["Report", "write_report"]

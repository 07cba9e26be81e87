"""The report on a training run: one HTML file with curves, comparisons and contact sheets."""

from shop_similarity.training.report.contents import Report
from shop_similarity.training.report.page import write_report

__all__ = ["Report", "write_report"]

"""Metrics of free-form answers: pure functions from a reply and an item to numbers that add up. No torch here."""

from residency.eval.metrics.table import METRICS, Metric, check_items, columns, metric, statistics, value

__all__ = ["METRICS", "Metric", "check_items", "columns", "metric", "statistics", "value"]

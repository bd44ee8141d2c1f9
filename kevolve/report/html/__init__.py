"""The report as one HTML file: no network, no more than 2 MB, readable without JavaScript. ``render(record)``."""

from kevolve.report.html.page import LIMIT, render

__all__ = ["LIMIT", "render"]

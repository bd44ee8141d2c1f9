"""Shared by the tests of kevolve itself."""

from __future__ import annotations

pytest_plugins = ("pytester",)

"""Sixty references that a first draft must be printed for; see README.md."""

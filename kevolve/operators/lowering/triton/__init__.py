"""Prints a ``Program`` as Triton: ``printer``, a module a form of kernel, and what they share."""

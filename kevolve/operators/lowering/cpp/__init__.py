"""Prints a ``Program`` as C++: ``printer``, a module a form of kernel, and what they share."""

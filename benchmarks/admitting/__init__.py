"""What ``benchmarks/admission.py`` is made of."""

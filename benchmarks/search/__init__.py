"""Tuning landscapes: measured whole on a device, then replayed to compare what searches them."""

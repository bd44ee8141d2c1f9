"""What must be computed, on which inputs, how fast: pure values, no torch."""

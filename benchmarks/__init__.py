"""Speed and memory, measured; run by hand, never among the tests."""

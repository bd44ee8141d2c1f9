"""What each ATen operator means: for views an index, for pointwise operators an expression, for what combines elements a step."""

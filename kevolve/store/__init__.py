"""What is kept: the graph database and its artifacts."""

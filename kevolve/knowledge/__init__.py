"""What do we know? The document tree, its retrieval, diagnoses of outcomes and the write-back of skills."""

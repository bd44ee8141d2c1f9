"""Is it so: the trusted judge, the untrusted worker, and what is measured between them."""

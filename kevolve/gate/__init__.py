"""*Did it get worse?* Kernels that changed since a revision, the old text against the new one, and what that comes to."""

"""What next? The search graph, its policies and the loop."""

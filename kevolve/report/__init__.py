"""What people see: one run record, and every view of it."""

"""What people see and press. Panels know qt and small protocols, nothing else."""

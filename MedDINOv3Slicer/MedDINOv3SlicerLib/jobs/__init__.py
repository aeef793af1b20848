"""Processes: the warm worker, batches, and trainings that outlive Slicer."""

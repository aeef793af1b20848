"""Frozen tokens of a scan, computed once, and what can be asked of them without a model."""

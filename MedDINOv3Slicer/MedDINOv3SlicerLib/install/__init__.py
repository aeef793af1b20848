"""Packages that Slicer lacks: what is needed, asked for, installed."""

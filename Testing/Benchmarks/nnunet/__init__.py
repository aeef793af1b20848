"""The two sides of against_nnunet.py, and what they have in common."""

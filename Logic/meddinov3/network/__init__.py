"""The network: DINOv3 backbone, multi-scale tokens, light decoder (arXiv 2509.02379)."""

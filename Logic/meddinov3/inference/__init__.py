"""From a volume to a label map on its own grid."""

"""What the module shows in Slicer. qt is imported here and nowhere else in the project."""

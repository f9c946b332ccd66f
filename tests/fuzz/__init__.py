"""Damaged files for every reader: seeded mutations, and the processes in which they are read."""

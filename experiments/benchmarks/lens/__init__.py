"""Seconds and memory of upgrade, stability, diagnose and fuse, by number of rows."""

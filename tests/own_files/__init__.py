"""Files as other programs write them: the command line, what it gave, and what is right.

Each module holds ``CASES`` of one area. ``tests/test_own_files.py`` measures them, and writes
``docs/own_files.md`` from what it measured.
"""

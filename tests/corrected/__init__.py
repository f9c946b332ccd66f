"""Wrong numbers that users once got: the call, what it gave, and the right value.

Each module holds ``CASES`` of one area. ``tests/test_corrected.py`` measures them, and writes
``docs/corrected.md`` from what it measured.
"""

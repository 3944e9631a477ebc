"""Programs to read and to copy; each runs in `tests/examples`.

Law: an example imports the public package and the standard library, nothing internal.
"""

"""The documents, and what writes the part of them that comes from the code."""

"""What an operator does: make destinations exist, give dead letters back.

Law: works with what the client hands in (a subscriber, publishers, the seam); it opens nothing and knows no backend.
"""

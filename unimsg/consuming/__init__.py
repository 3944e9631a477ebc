"""The way in: subscriber, loop, and the parts that the loop is made of.

Law: knows the seam (`unimsg.spi`) and policies; no backend, nothing of the way out. `client.py` hands in what it needs.
"""

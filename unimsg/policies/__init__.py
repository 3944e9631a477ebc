"""Pure decisions: retry, backoff, budget, breaker.

Law: no I/O and no clock; the time comes in as an argument.
"""

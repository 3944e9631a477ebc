"""One SQLite file shared by processes: how it is opened, who writes next, the thread that has the connection, the time.

Law: what the sqlite backend and the sqlite store have in common, and neither messages nor keys.
"""

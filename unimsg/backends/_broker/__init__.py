"""What backends share that open sockets to a broker: the place in a URL, secrets in files, TLS, copies for a retry.

Law: knows no client library, no protocol and no service; each backend says in its own words who speaks.
"""

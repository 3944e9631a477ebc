"""What the backends of AWS share: account, transport, meaning of errors.

Law: knows no service's semantics; the client library of AWS is at home here and nowhere else.
"""

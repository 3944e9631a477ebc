"""The way out: a message is encoded, checked, queued by lane, sent in batches, and ends in one of three ways.

Law: knows senders by their contract (`unimsg.spi`) and nothing of consuming, of a backend or of a client. Read in
this order: `publisher` (what users call), `checks`, `entry`, `lanes`, `batcher`, `outcomes`, `link`.
"""

"""One async Publisher/Subscriber API over many messaging services: the URL names the service, the code stays.

Law: what users import; nothing is defined here.
"""

"""Backends: one folder for each service, none knowing another; found by scheme, loaded when asked for."""

"""Sockets of the client port: listeners, and the calls that come in through them."""

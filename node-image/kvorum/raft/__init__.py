"""Consensus: Raft as a state machine without I/O. Messages and ticks in; messages, entries to store and entries to
apply out.

Start with core.py. Imports nothing else of Kvorum, and no clock, socket, disk or random source.
"""

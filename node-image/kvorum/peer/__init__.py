"""etcd's peer protocol on port 2380: streams of raft messages, and the few questions members ask each other by HTTP.

Transport is the outgoing and receiving side, PeerListener the port, discovery what a member asks before it is one.
The facts behind it, with what was captured from real members, are in docs/peer-protocol.md.
"""

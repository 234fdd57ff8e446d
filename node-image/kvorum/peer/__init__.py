"""etcd's peer protocol on port 2380: streams of raft messages, and the few questions members ask each other by HTTP.

Transport sends and receives, PeerListener is the port with Handlers behind it, Discovery asks what is no message.
What real members of etcd 3.5 say on the wire is recorded beside the tests and is the authority for every byte here.
"""

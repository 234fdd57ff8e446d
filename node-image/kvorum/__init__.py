"""Kvorum's node: a Raft key-value server that speaks etcd's API to clients and etcd's peer protocol to members."""

__version__ = "0.1.0"

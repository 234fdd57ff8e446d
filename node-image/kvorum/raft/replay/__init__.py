"""Replays the data-driven test files of etcd-io/raft: `python -m kvorum.raft.replay DIR`.

The one place in raft/ that reads files. Nothing of the node imports it.
"""

"""The node's only disk: the write-ahead log in etcd's bytes, the tables in LMDB, the data directory around them.

What is written is raftpb (entry_codec) behind walpb's records (record, segment, wal); rows go to LMDB (lmdb_store).
Nothing here decides: which entries, when to sync and when to commit is the owner's to say.
"""

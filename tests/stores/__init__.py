"""Three stores side by side: etcd, ZooKeeper and ours, for docs/why-raft-store.md."""

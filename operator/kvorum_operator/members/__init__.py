"""What the operator asks of members, over etcd's own API."""

"""One running member: what it does between the network, the log and the replicated state."""

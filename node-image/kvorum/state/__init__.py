"""The replicated state: the same entries give the same rows as etcd's, on every member. No clock, disk, socket."""

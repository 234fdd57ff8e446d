"""What each command does, a module for each of etcdctl's groups: they take a Call and arguments, and answer by it."""

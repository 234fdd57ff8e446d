"""Plain objects, built from a cluster's specification: the same on every platform, and pure."""

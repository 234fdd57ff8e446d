"""Durations counted in buckets, for /metrics: a bisect and two additions an observation."""

from bisect import bisect_left

BOUNDS_S = tuple(0.001 * 2**n for n in range(14))  # etcd's buckets for fsync: 1 ms to 8.2 s


class Histogram:
    """counts: of observations up to each bound, the last of those above all."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

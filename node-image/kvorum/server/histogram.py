"""Durations counted in buckets, for /metrics: a bisect and two additions an observation."""

from bisect import bisect_left

BOUNDS_S = tuple(0.001 * 2**n for n in range(14))  # etcd's buckets for fsync: 1 ms to 8.2 s
CALL_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # etcd's for calls: Prometheus' own
PROBE_BOUNDS_S = tuple(0.0001 * 2**n for n in range(16))  # etcd's for round trips to members: 0.1 ms to 3.3 s


class Histogram:
    """counts: of observations up to each bound, the last of those above all."""

    def __init__(self, bounds_s: tuple[float, ...] = BOUNDS_S) -> None:
        self.bounds_s = bounds_s
        self.counts = [0] * (len(bounds_s) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds_s, seconds)] += 1
        self.sum_s += seconds

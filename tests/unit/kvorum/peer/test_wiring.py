"""How patient members are with one another."""

from kvorum.peer.wiring import TIMINGS, Timings


def test_timings_follow_from_two_timeouts_as_in_etcd() -> None:
    assert Timings.of(read_timeout_s=5.0, write_timeout_s=5.0) == TIMINGS
    patient = Timings.of(read_timeout_s=12.0, write_timeout_s=7.0)
    assert (patient.read_timeout_s, patient.heartbeat_s, patient.probe_s, patient.stalled_s) == (12.0, 4.0, 11.0, 7.0)

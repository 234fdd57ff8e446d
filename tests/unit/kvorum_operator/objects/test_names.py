"""Names and addresses: they are written into member lists and volumes, so they stay what they are."""

from kvorum_operator.objects import names


def test_addresses_are_those_of_the_headless_service_without_the_clusters_own_domain() -> None:
    address = names.addresses("kv", "prod")["kv-1"]
    assert address.client_url == "http://kv-1.kv-peers.prod.svc:2379"
    assert address.peer_url == "http://kv-1.kv-peers.prod.svc:2380"


def test_there_is_an_address_for_each_of_nine_members_in_their_order() -> None:
    assert list(names.addresses("kv", "prod")) == [f"kv-{ordinal}" for ordinal in range(9)]


def test_volume_claim_is_named_as_the_stateful_set_controller_names_it_and_back() -> None:
    assert names.volume_claim("kv-0") == "data-kv-0"
    assert names.member_of_claim("data-kv-0") == "kv-0"
    assert names.member_of_claim(names.volume_claim("data-0")) == "data-0"


def test_no_two_objects_of_clusters_that_may_be_side_by_side_have_one_name() -> None:
    """A cluster named demo-peers would; the name is refused."""
    for other in ("kv-members", "kv-bootstrap", "kv-0", "data-kv"):
        services = {"kv", names.peers_service("kv")} & {other, names.peers_service(other)}
        maps = {names.members_config("kv"), names.bootstrap_record("kv")} & {
            names.members_config(other),
            names.bootstrap_record(other),
        }
        members = set(names.all_members("kv")) & set(names.all_members(other))
        assert not services | maps | members, other

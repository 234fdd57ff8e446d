"""Protobuf's JSON as Go reads and writes it. A real etcd's reading: tests/compat/test_gateway.py."""

import json

import pytest
from google.protobuf import json_format, text_format
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from kvorum.api import proto_json
from kvorum.api.proto_json import BadJson
from kvorum.etcdpb import rpc_pb2 as rpc


def read(text: str, message: Message | None = None) -> str:
    """The first message of a text, as protobuf's own text format shows it."""
    message = message or rpc.RangeRequest()
    proto_json.read(message, next(proto_json.documents(text)))
    return text_format.MessageToString(message, as_one_line=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", ""),
        ('{"limit":5}', "limit: 5"),
        ('{"limit":"5"}', "limit: 5"),
        ('{"limit":5.0}', "limit: 5"),
        ('{"limit":50e-1}', "limit: 5"),
        ('{"limit":"-5"}', "limit: -5"),
        ('{"limit":"5e0"}', "limit: 5"),
        ('{"limit":"5,"}', "limit: 5"),  # Go's reader of numbers stops there
        ('{"limit":-0}', ""),
        ('{"limit":9223372036854775807}', "limit: 9223372036854775807"),
        ('{"limit":"-9223372036854775808"}', "limit: -9223372036854775808"),
        ('{"key":"Zm9v"}', 'key: "foo"'),
        ('{"key":"Zm8="}', 'key: "fo"'),
        ('{"key":"Zm8"}', 'key: "fo"'),
        ('{"key":"_-8="}', 'key: "\\377\\357"'),
        ('{"key":"/+8"}', 'key: "\\377\\357"'),
        ('{"key":"Zm\\n9v\\r\\n"}', 'key: "foo"'),
        ('{"key":"\\u005am9v"}', 'key: "foo"'),
        ('{"key":""}', ""),
        ('{"sort_order":"DESCEND"}', "sort_order: DESCEND"),
        ('{"sort_order":2}', "sort_order: DESCEND"),
        ('{"sort_order":2.0}', "sort_order: DESCEND"),
        ('{"sort_order":7}', "sort_order: 7"),
        ('{"sort_order":"SIDEWAYS"}', ""),
        ('{"sort_order":"2"}', ""),
        ('{"rangeEnd":"Zm9v","range_end_":1}', 'range_end: "foo"'),
        ('{"keysOnly":true,"count_only":false}', "keys_only: true"),
        ('{"key":null,"limit":null,"sort_order":null}', ""),
        ('{"unknown":{"key":[1,{"a":null}]},"@type":"x","[a.b]":1e9,"Limit":3}', ""),
        (f'{{"unknown":{"1" * 4000},"limit":1}}', "limit: 1"),
        (' \r\n\t{ "limit" : 1 } and what follows', "limit: 1"),
    ],
)
def test_what_is_read(text: str, message: str) -> None:
    assert read(text) == message


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("null", "unexpected token null"),
        ("[]", "unexpected token ["),
        ('"x"', 'unexpected token "x"'),
        ("5", "unexpected token 5"),
        ("", "StopIteration"),
        ("{", "unexpected EOF"),
        ('{"key":"Zm9', "unexpected EOF"),
        ('{"key"', "unexpected EOF"),
        ('{"key":"a\nb"}', "Invalid control character"),
        ('{"key":NaN}', "NaN is no number"),
        ('{"limit":-Infinity}', "-Infinity is no number"),
        (f'{{"unknown":{"1" * 5000}}}', "a number of too many digits"),
        (f'{{"limit":{"1" * 4000}}}', "invalid value for int64"),
        ("{'key':1}", "Expecting property name"),
        ('{"limit":01}', "Expecting ',' delimiter"),
        ('{"a":' * 100_000, "exceeded max depth"),
        ('{"key":1}', "invalid value for bytes field key: 1"),
        ('{"key":"Zm9v="}', 'invalid value for bytes field key: "Zm9v="'),
        ('{"key":"Z"}', "invalid value for bytes"),
        ('{"key":"Zm 9v"}', "invalid value for bytes"),
        ('{"key":"===="}', "invalid value for bytes"),
        ('{"key":"-+=="}', "invalid value for bytes"),
        ('{"key":"Zm9v\\nQQ="}', "invalid value for bytes"),
        ('{"key":"\\u00e9"}', "invalid value for bytes"),
        ('{"key":["Zm9v"]}', "invalid value for bytes field key: ["),
        ('{"key":{}}', "invalid value for bytes field key: {"),
        ('{"limit":1.5}', "invalid value for int64 field limit: 1.5"),
        ('{"limit":true}', "invalid value for int64 field limit: true"),
        ('{"limit":" 5"}', 'invalid value for int64 field limit: " 5"'),
        ('{"limit":"5 "}', "invalid value for int64"),
        ('{"limit":"0x5"}', "invalid value for int64"),
        ('{"limit":"007"}', "invalid value for int64"),
        ('{"limit":"1_000"}', "invalid value for int64"),
        ('{"limit":""}', "invalid value for int64"),
        ('{"limit":9223372036854775808}', "invalid value for int64"),
        ('{"limit":1e999999999}', "invalid value for int64"),
        ('{"limit":"1e99999999999999999999"}', "invalid value for int64"),
        ('{"limit":1e99999999999999999999}', "a number beyond all bounds"),
        ('{"minModRevision":"x"}', "invalid value for int64 field minModRevision"),
        ('{"serializable":1}', "invalid value for bool field serializable: 1"),
        ('{"serializable":"true"}', "invalid value for bool"),
        ('{"sort_order":true}', "invalid value for enum field sortOrder: true"),
        ('{"sort_order":2147483648}', "invalid value for enum"),
        ('{"key":"YQ==","key":"YQ=="}', 'duplicate field "key"'),
        ('{"range_end":"","rangeEnd":""}', 'duplicate field "rangeEnd"'),
        ('{"range_end":null,"rangeEnd":""}', "duplicate field"),
    ],
)
def test_what_is_not(text: str, why: str) -> None:
    with pytest.raises((BadJson, StopIteration)) as refused:
        read(text)
    assert why in str(refused.value) or why == refused.typename


def test_messages_within_messages_and_their_unions() -> None:
    text = '{"success":[{"requestTxn":{"compare":[{"target":3,"value":"YQ=="}]}},{},{"request_range":{}}],"compare":[]}'
    assert read(text, rpc.TxnRequest()) == (
        'success { request_txn { compare { target: VALUE value: "a" } } } success { } success { request_range { } }'
    )
    for wrong, why in (
        ('{"compare":[{"value":"YQ==","version":1}]}', "oneof etcdserverpb.Compare.target_union is already set"),
        ('{"compare":[null]}', "unexpected token null"),
        ('{"compare":{}}', "unexpected token {"),
        ('{"success":[{"request_put":[]}]}', "unexpected token ["),
    ):
        with pytest.raises(BadJson, match=why.replace("{", r"\{").replace("[", r"\[")):
            read(wrong, rpc.TxnRequest())
    # Nothing is set by a null, so it is not one of two.
    assert read('{"compare":[{"value":null,"version":1}]}', rpc.TxnRequest()) == "compare { version: 1 }"


def test_the_depth_of_messages_is_bounded() -> None:
    def nested(depth: int) -> str:
        return '{"success":[{"request_txn":' * depth + "{}" + "}]}" * depth

    read(nested(49), rpc.TxnRequest())
    with pytest.raises(BadJson, match="recursion"):
        read(nested(51), rpc.TxnRequest())


def test_unsigned_numbers_and_texts() -> None:
    assert read('{"ID":18446744073709551615}', rpc.MemberRemoveRequest()) == "ID: 18446744073709551615"
    assert read('{"peerURLs":["http://\\u00e9:1"]}', rpc.MemberAddRequest()) == 'peerURLs: "http://é:1"'
    for text in ('{"ID":-1}', '{"ID":18446744073709551616}', '{"ID":null,"ID":1}'):
        with pytest.raises(BadJson):
            read(text, rpc.MemberRemoveRequest())
    for text in ('{"peerURLs":["\\ud800"]}', '{"peerURLs":[1]}', '{"peerURLs":[null]}', '{"peerURLs":"a"}'):
        with pytest.raises(BadJson):
            read(text, rpc.MemberAddRequest())


def test_documents_follow_each_other_and_the_first_wrong_one_ends_them() -> None:
    documents = proto_json.documents('{"a":1} {"b":2}{"c":3}\n\n[] {"d":4}')
    assert [next(documents) for _ in range(3)] == [[("a", 1)], [("b", 2)], [("c", 3)]]
    with pytest.raises(BadJson):
        next(documents)
    assert list(documents) == []
    assert list(proto_json.documents(" \n")) == []


def test_zero_is_not_written_and_what_is_set_is() -> None:
    answer = rpc.TxnResponse(
        header=rpc.ResponseHeader(cluster_id=(1 << 64) - 1, revision=-1),
        responses=[rpc.ResponseOp(response_put=rpc.PutResponse()), rpc.ResponseOp()],
    )
    assert proto_json.write(answer) == (
        '{"header":{"cluster_id":"18446744073709551615","revision":"-1"},"responses":[{"response_put":{}},{}]}'
    )
    event = rpc.Event(type=rpc.Event.DELETE, kv=rpc.KeyValue(key=b"\xff\xef"))
    assert proto_json.write(event) == '{"type":"DELETE","kv":{"key":"/+8="}}'
    assert proto_json.write(rpc.HashKVResponse(hash=4294967295)) == '{"hash":4294967295}'
    assert proto_json.write(rpc.AlarmMember(memberID=1, alarm=9)) == '{"memberID":"1","alarm":9}'  # type: ignore[arg-type]  # a later etcd's
    assert proto_json.write(rpc.WatchResponse(cancel_reason='"é"\n')) == '{"cancel_reason":"\\"é\\"\\n"}'


KVS = st.builds(
    rpc.KeyValue,
    key=st.binary(max_size=8),
    value=st.binary(max_size=8),
    lease=st.integers(-(1 << 63), (1 << 63) - 1),
    version=st.integers(0, 5),
)
ANSWERS = st.one_of(
    st.builds(rpc.RangeResponse, kvs=st.lists(KVS, max_size=3), more=st.booleans(), count=st.integers(0, 9)),
    st.builds(
        rpc.WatchResponse,
        watch_id=st.integers(-1, 3),
        canceled=st.booleans(),
        cancel_reason=st.text(max_size=5),
        events=st.lists(st.builds(rpc.Event, type=st.sampled_from([0, 1]), kv=KVS, prev_kv=KVS), max_size=2),
    ),
    st.builds(
        rpc.StatusResponse,
        leader=st.integers(0, (1 << 64) - 1),
        errors=st.lists(st.text(max_size=4), max_size=2),
        isLearner=st.booleans(),
    ),
)


@given(ANSWERS)
@settings(deadline=None)
def test_what_is_written_is_what_protobufs_own_json_says_and_is_read_back(message: Message) -> None:
    text = proto_json.write(message)
    assert json.loads(text) == json_format.MessageToDict(message, preserving_proto_field_name=True)
    again = type(message)()
    proto_json.read(again, next(proto_json.documents(text)))
    assert again == message
    camel = type(message)()
    proto_json.read(camel, next(proto_json.documents(json_format.MessageToJson(message))))
    assert camel == message

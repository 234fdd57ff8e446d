"""HTTP on the client and metrics ports: what probes, scrapers and curious people ask.

The paths and answers are etcd's, except /kvorum/v1/member: what this member says of itself, with its state as one word.
What lies below /v3/, /v2/ and /debug/ is answered by whom the constructor is given for it, on the client port alone.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import parse_qs

from kvorum import __version__
from kvorum.api import metrics
from kvorum.net.exchange import Exchange, HttpHandler, HttpRequest, HttpResponse, Respond
from kvorum.raft.core import Role
from kvorum.raft.message import NONE
from kvorum.server import reconfiguration
from kvorum.server.answer import Answer, Done
from kvorum.server.server import Server
from kvorum.state.alarms import alarm_name
from kvorum.state.membership import NOT_DECIDED, hex_id

TEXT = ("Content-Type", "text/plain; charset=utf-8")
JSON = ("Content-Type", "application/json")
Check = Callable[[Callable[[str | None], None]], None]  # calls back with None, or with what is wrong


def text(status: int, body: str, *headers: tuple[str, str]) -> HttpResponse:
    return HttpResponse(status, body.encode(), (TEXT, ("X-Content-Type-Options", "nosniff"), *headers))


def as_json(status: int, body: object) -> HttpResponse:
    return HttpResponse(status, (json.dumps(body, separators=(",", ":")) + "\n").encode(), (JSON,))


class Endpoints:
    """Answers GET requests; respond is called once, now or when the log has answered."""

    def __init__(
        self,
        server: Server,
        describe: Callable[[], Mapping[str, object]],
        traffic: Callable[[], metrics.Traffic],
        others: Mapping[str, HttpHandler] | None = None,
    ) -> None:
        """What whoever started the node knows: the identity part of /kvorum/v1/member, and the ports' traffic.

        others: who answers what begins with `/v3/` and the like, by that beginning.
        """
        self._server = server
        self._others = others or {}
        self._describe = describe
        self.traffic = traffic
        self.health_successes = 0
        self.health_failures = 0

    def handle(self, request: HttpRequest, exchange: Exchange) -> None:
        """On the client port."""
        if self._others:
            beginning = request.path[: request.path.find("/", 1) + 1]
            other = self._others.get(beginning)
            if other is not None:
                other(request, exchange)
                return
        self.probe(request, exchange)

    def probe(self, request: HttpRequest, respond: Respond) -> None:
        """What the metrics port answers, too."""
        path = request.path
        if path in ("/livez", "/readyz") or path.startswith(("/livez/", "/readyz/")):
            answer: Callable[[HttpRequest, Respond], None] = self._checks
        else:
            found = {
                "/version": self._version,
                "/health": self._health,
                "/metrics": self._metrics,
                "/kvorum/v1/member": self._member,
            }.get(path)
            if found is None:
                respond(text(404, "404 page not found\n"))
                return
            answer = found
        if request.method != "GET" and path != "/metrics":
            respond(text(405, "Method Not Allowed\n", ("Allow", "GET")))
        else:
            answer(request, respond)

    def _version(self, request: HttpRequest, respond: Respond) -> None:
        respond(HttpResponse(200, version_body(self._server), (JSON,)))

    def _metrics(self, request: HttpRequest, respond: Respond) -> None:
        content_type, body = metrics.render(self._server, self)
        respond(HttpResponse(200, body, (("Content-Type", content_type),)))

    def _member(self, request: HttpRequest, respond: Respond) -> None:
        respond(as_json(200, {**self._describe(), **member_state(self._server)}))

    # -- health --------------------------------------------------------------------------------------------------

    def _health(self, request: HttpRequest, respond: Respond) -> None:
        """etcd's /health: alarms first, then a leader, then a read."""
        query = parse_qs(request.query, keep_blank_values=True)
        excluded = set(query.get("exclude", ()))
        serializable = query.get("serializable", [""])[0] == "true"
        alarms = [kind for kind in alarm_names(self._server) if kind not in excluded]

        def done(why: str | None) -> None:
            if why is None:
                self.health_successes += 1
            else:
                self.health_failures += 1
            healthy = json.dumps({"health": str(why is None).lower(), "reason": why or ""}, separators=(",", ":"))
            # etcd's content type is text, and a refusal ends with a new line
            respond(HttpResponse(200, healthy.encode(), (TEXT,)) if why is None else text(503, healthy + "\n"))

        if alarms:
            done("ALARM " + alarms[0])
        elif not serializable and self._server.raft.leader == NONE:
            done("RAFT NO LEADER")
        elif serializable:
            done(None)
        else:
            self._linearizable(lambda why: done(None if why is None else "QGET ERROR:" + why))

    def _linearizable(self, done: Callable[[str | None], None]) -> None:
        def run(server: Server, answer: Answer) -> None:
            answer.reply(b"")

        self._server.read(run, Done(lambda refused: done(None if refused is None else refused.text)))

    def _serializable(self, done: Callable[[str | None], None]) -> None:
        done(None)  # whoever answers at all can read what it has applied

    def _data_corruption(self, done: Callable[[str | None], None]) -> None:
        done("alarm activated: CORRUPT" if "CORRUPT" in alarm_names(self._server) else None)

    def _non_learner(self, done: Callable[[str | None], None]) -> None:
        done("not supported for learner" if self._server.is_learner else None)

    def _checks(self, request: HttpRequest, respond: Respond) -> None:
        """/livez, /readyz, and each of their checks by name; ?verbose, ?exclude=NAME."""
        _, root, *rest = request.path.split("/")
        checks: dict[str, Check] = {"serializable_read": self._serializable}
        if root == "readyz":
            checks = {
                "data_corruption": self._data_corruption,
                "serializable_read": self._serializable,
                "linearizable_read": self._linearizable,
                "non_learner": self._non_learner,
            }
        query = parse_qs(request.query, keep_blank_values=True)
        excluded = set(query.get("exclude", ()))
        if rest:
            if len(rest) > 1 or rest[0] not in checks:
                respond(text(404, "404 page not found\n"))
                return
            checks, excluded = {rest[0]: checks[rest[0]]}, set()  # whoever names one check means it
        wanted = {name: check for name, check in checks.items() if name not in excluded}
        results: dict[str, str | None] = {}

        def done(name: str, why: str | None) -> None:
            results[name] = why
            if len(results) == len(wanted):
                respond(_report(results, verbose="verbose" in query))

        if not wanted:
            respond(_report({}, verbose="verbose" in query))
        for name, check in wanted.items():
            check(partial(done, name))


def alarm_names(server: Server) -> list[str]:
    return [alarm_name(alarm.alarm) for alarm in server.machine.alarms.active()]


def _report(results: Mapping[str, str | None], *, verbose: bool) -> HttpResponse:
    failed = any(results.values())
    if not failed and not verbose:
        return text(200, "ok\n")
    lines = [f"[-]{name} failed: {why}\n" if why else f"[+]{name} ok\n" for name, why in results.items()]
    return text(503 if failed else 200, "".join(lines) + ("\n" if failed else "ok\n"))


def version_body(server: Server) -> bytes:
    """{"etcdserver":…,"etcdcluster":…}: clients parse every part of the numbers, so nothing else may stand there."""
    cluster = server.machine.membership.cluster_version or NOT_DECIDED
    return json.dumps(
        {"etcdserver": server.settings.claimed_version, "etcdcluster": cluster}, separators=(",", ":")
    ).encode()


def member_state(server: Server) -> dict[str, object]:
    """The part of /kvorum/v1/member that changes. state is one of the design's words."""
    state, reason = _state(server)
    return {
        "version": __version__,
        "state": state,
        "reason": reason,
        "leader": f"{server.raft.leader:x}" if server.raft.leader != NONE else "",
        "term": server.raft.term,
        "revision": server.machine.revision,
        "appliedIndex": server.machine.applied_index,
        "commitIndex": server.raft.log.committed,
        "databaseBytes": server.store.size_bytes,
    }


def _state(server: Server) -> tuple[str, str]:
    if server.removed:
        return "removed", "this member was removed from the cluster; delete its data before it is added again"
    if server.stopping:
        return "stopping", ""
    if foreign := reconfiguration.foreign_voters(server):
        names = ", ".join(map(hex_id, foreign))
        return "foreign-cluster", (
            f"at the peer URLs of {names} another cluster than {hex_id(server.cluster_id)}, which this data is of, "
            "answers; if that one is the right one, empty the data directory and add this member there as a new one"
        )
    if server.full_disk.is_full:
        return "disk-full", f"{server.full_disk.reason}; free space on the volume, or enlarge it: writes then go on"
    if server.raft.leader == NONE:
        if server.is_starting:
            return "starting", "no leader has been heard of yet"
        return "no-quorum", "no leader: fewer voters than a quorum answer, or an election is under way"
    if server.is_learner:
        return "learner", ""
    if not server.ready:
        return "starting", "tells the cluster its name and client URLs"
    return ("leader" if server.raft.role is Role.LEADER else "follower"), ""

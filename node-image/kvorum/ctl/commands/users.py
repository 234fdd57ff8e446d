"""auth, user, role: who may do what."""

from typing import Any

from google.protobuf.message import Message

from kvorum.client import Client, ClientError, prefix_end
from kvorum.ctl import connecting
from kvorum.ctl.call import Call, raw, require_count
from kvorum.ctl.command import Command
from kvorum.ctl.exits import BAD_ARGS, ERROR, Exit, said
from kvorum.ctl.flags import BOOL, STRING, Flag
from kvorum.ctl.formats.answers import Done, Role, User
from kvorum.etcdpb import rpc_pb2 as rpc

AUTH = "/etcdserverpb.Auth/"
ROOT = "root"
NO_ROOT_ROLE = "etcdserver: root user does not have root role"
ACCESS = {"READ": rpc.Permission.READ, "WRITE": rpc.Permission.WRITE, "READWRITE": rpc.Permission.READWRITE}
EXCLUSIVE = "--from-key and --prefix flags are mutually exclusive"
PREFIX_FLAG = "prefix"
FROM_KEY_FLAG = "from-key"


async def ask(call: Call, method: str, request: Message, answer: Any, *, changes: bool = True) -> Any:
    if changes:
        return await call.ask(None, lambda client: client.write(AUTH + method, request, answer))
    return await call.ask(None, lambda client: client.read(AUTH + method, request, answer))


# auth


async def enable(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 0, "auth enable command does not accept any arguments")
    async with call.client() as client:
        try:
            await enable_with_role(client)
        except ClientError as error:
            raise Exit(ERROR, said(error)) from None
    call.line("Authentication Enabled")


async def enable_with_role(client: Client) -> None:
    """Gives root its role if that is what is missing. Raises ClientError."""
    try:
        await client.auth.enable()
    except ClientError as error:
        if error.text != NO_ROOT_ROLE:
            raise
        await client.auth.role_add(ROOT)
        await client.auth.user_grant_role(ROOT, ROOT)
        await client.auth.enable()


async def disable(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 0, "auth disable command does not accept any arguments")
    await ask(call, "AuthDisable", rpc.AuthDisableRequest(), rpc.AuthDisableResponse)
    call.line("Authentication Disabled")


async def status(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 0, "auth status command does not accept any arguments")
    call.show(await ask(call, "AuthStatus", rpc.AuthStatusRequest(), rpc.AuthStatusResponse, changes=False))


# user


async def user_add(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 1, "user add command requires user name as its argument")
    name, password = name_and_password(call, arguments[0])
    options = rpc.UserAddOptions(no_password=call.flags.boolean("no-password"))
    request = rpc.AuthUserAddRequest(name=name, password=password, options=options)
    answer = await ask(call, "UserAdd", request, rpc.AuthUserAddResponse)
    call.show(Done(b"User " + raw(name) + b" created", answer))


def name_and_password(call: Call, text: str) -> tuple[str, str]:
    """Of a new user: text is the name, or NAME:PASSWORD where no flag says the password. Raises Exit."""
    if call.flags.boolean("no-password"):
        return text, ""
    if given := call.flags.string("new-user-password"):
        return text, given
    name, colon, password = text.partition(":")
    if not colon:
        return name, new_password(call, name)
    if not name:
        raise Exit(BAD_ARGS, "empty user name is not allowed")
    return name, password


async def user_delete(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 1, "user delete command requires user name as its argument")
    request = rpc.AuthUserDeleteRequest(name=arguments[0])
    answer = await ask(call, "UserDelete", request, rpc.AuthUserDeleteResponse)
    call.show(Done(b"User " + raw(arguments[0]) + b" deleted", answer))


async def user_get(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 1, "user get command requires user name as its argument")
    name = arguments[0]
    request = rpc.AuthUserGetRequest(name=name)
    answer = await ask(call, "UserGet", request, rpc.AuthUserGetResponse, changes=False)
    if not call.flags.boolean("detail"):
        call.show(User(raw(name), answer))
        return
    call.line(f"User: {name}")
    for role in answer.roles:
        call.line("")
        found = await ask(call, "RoleGet", rpc.AuthRoleGetRequest(role=role), rpc.AuthRoleGetResponse, changes=False)
        call.show(Role(raw(role), found))


async def user_list(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 0, "user list command requires no arguments")
    call.show(await ask(call, "UserList", rpc.AuthUserListRequest(), rpc.AuthUserListResponse, changes=False))


async def user_passwd(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 1, "user passwd command requires user name as its argument")
    password = new_password(call, arguments[0])
    request = rpc.AuthUserChangePasswordRequest(name=arguments[0], password=password)
    answer = await ask(call, "UserChangePassword", request, rpc.AuthUserChangePasswordResponse)
    call.show(Done(b"Password updated", answer))


async def user_grant_role(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 2, "user grant command requires user name and role name as its argument")
    name, role = arguments
    request = rpc.AuthUserGrantRoleRequest(user=name, role=role)
    answer = await ask(call, "UserGrantRole", request, rpc.AuthUserGrantRoleResponse)
    call.show(Done(b"Role " + raw(role) + b" is granted to user " + raw(name), answer))


async def user_revoke_role(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 2, "user revoke-role requires user name and role name as its argument")
    name, role = arguments
    request = rpc.AuthUserRevokeRoleRequest(name=name, role=role)
    answer = await ask(call, "UserRevokeRole", request, rpc.AuthUserRevokeRoleResponse)
    call.show(Done(b"Role " + raw(role) + b" is revoked from user " + raw(name), answer))


def new_password(call: Call, name: str) -> str:
    """Asked for twice; or once, from standard input, with --interactive=false. Raises Exit."""
    if not call.flags.boolean("interactive"):
        line = call.world.stdin.readline().decode(errors="surrogateescape")
        return (line.split() or [""])[0]
    password = connecting.ask_password(call, f"Password of {name}: ")
    if not password:
        raise Exit(BAD_ARGS, "empty password")
    if connecting.ask_password(call, f"Type password of {name} again for confirmation: ") != password:
        raise Exit(BAD_ARGS, "given passwords are different")
    return password


# role


async def role_add(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 1, "role add command requires role name as its argument")
    answer = await ask(call, "RoleAdd", rpc.AuthRoleAddRequest(name=arguments[0]), rpc.AuthRoleAddResponse)
    call.show(Done(b"Role " + raw(arguments[0]) + b" created", answer))


async def role_delete(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 1, "role delete command requires role name as its argument")
    answer = await ask(call, "RoleDelete", rpc.AuthRoleDeleteRequest(role=arguments[0]), rpc.AuthRoleDeleteResponse)
    call.show(Done(b"Role " + raw(arguments[0]) + b" deleted", answer))


async def role_get(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 1, "role get command requires role name as its argument")
    request = rpc.AuthRoleGetRequest(role=arguments[0])
    answer = await ask(call, "RoleGet", request, rpc.AuthRoleGetResponse, changes=False)
    call.show(Role(raw(arguments[0]), answer))


async def role_list(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 0, "role list command requires no arguments")
    call.show(await ask(call, "RoleList", rpc.AuthRoleListRequest(), rpc.AuthRoleListResponse, changes=False))


async def role_grant_permission(call: Call, arguments: list[str]) -> None:
    if len(arguments) < 3:
        told = "role grant command requires role name, permission type, and key [endkey] as its argument"
        raise Exit(BAD_ARGS, told)
    role, access = arguments[:2]
    if access.upper() not in ACCESS:
        raise Exit(BAD_ARGS, f"invalid permission type: {access}")
    key, range_end = span(call, arguments[2:])
    request = rpc.AuthRoleGrantPermissionRequest(
        name=role, perm=rpc.Permission(permType=ACCESS[access.upper()], key=key, range_end=range_end)
    )
    answer = await ask(call, "RoleGrantPermission", request, rpc.AuthRoleGrantPermissionResponse)
    call.show(Done(b"Role " + raw(role) + b" updated", answer))


async def role_revoke_permission(call: Call, arguments: list[str]) -> None:
    if len(arguments) < 2:
        told = "role revoke-permission command requires role name and key [endkey] as its argument"
        raise Exit(BAD_ARGS, told)
    role = arguments[0]
    key, range_end = span(call, arguments[1:])
    request = rpc.AuthRoleRevokePermissionRequest(role=role, key=key, range_end=range_end)
    answer = await ask(call, "RoleRevokePermission", request, rpc.AuthRoleRevokePermissionResponse)
    given = raw(arguments[1])
    if not range_end:
        text = b"Permission of key " + given
    elif range_end == b"\0":
        text = b"Permission of range [" + given + b", <open ended>"
    else:
        text = b"Permission of range [" + given + b", " + range_end + b")"
    call.show(Done(text + b" is revoked from role " + raw(role), answer))


def span(call: Call, arguments: list[str]) -> tuple[bytes, bytes]:
    """Key and range_end of a permission. Raises Exit."""
    key = raw(arguments[0])
    prefix, from_key = call.flags.boolean(PREFIX_FLAG), call.flags.boolean(FROM_KEY_FLAG)
    if prefix and from_key and (not key or len(arguments) == 1):
        raise Exit(BAD_ARGS, EXCLUSIVE)
    if not key:
        return b"\0", b"\0" if prefix or from_key else b""
    if len(arguments) == 1:
        return key, prefix_end(key) if prefix else b"\0" if from_key else b""
    if prefix or from_key:
        raise Exit(BAD_ARGS, f"unexpected endkey argument with --{PREFIX_FLAG if prefix else FROM_KEY_FLAG} flag")
    return key, raw(arguments[1])


def span_flags(verb: str) -> list[Flag]:
    return [
        Flag(PREFIX_FLAG, BOOL, False, f"{verb} a prefix permission"),
        Flag(
            FROM_KEY_FLAG,
            BOOL,
            False,
            f"{verb} a permission of keys that are greater than or equal to the given key using byte compare",
        ),
    ]


def commands() -> list[Command]:
    return [
        Command(
            "auth <enable or disable>",
            "Enable or disable authentication",
            commands=[
                Command("enable", "Enables authentication", enable),
                Command("disable", "Disables authentication", disable),
                Command("status", "Returns authentication status", status),
            ],
        ),
        Command(
            "user <subcommand>",
            "User related commands",
            commands=[
                Command(
                    "add <user name or user:password> [options]",
                    "Adds a new user",
                    user_add,
                    flags=[
                        Flag("interactive", BOOL, True, "Read password from stdin instead of interactive terminal"),
                        Flag("new-user-password", STRING, "", "Supply password from the command line flag"),
                        Flag("no-password", BOOL, False, "Create a user without password (CN based auth only)"),
                    ],
                ),
                Command("delete <user name>", "Deletes a user", user_delete),
                Command(
                    "get <user name> [options]",
                    "Gets detailed information of a user",
                    user_get,
                    flags=[Flag("detail", BOOL, False, "Show permissions of roles granted to the user")],
                ),
                Command("list", "Lists all users", user_list),
                Command(
                    "passwd <user name> [options]",
                    "Changes password of user",
                    user_passwd,
                    flags=[
                        Flag(
                            "interactive",
                            BOOL,
                            True,
                            "If true, read password from stdin instead of interactive terminal",
                        )
                    ],
                ),
                Command("grant-role <user name> <role name>", "Grants a role to a user", user_grant_role),
                Command("revoke-role <user name> <role name>", "Revokes a role from a user", user_revoke_role),
            ],
        ),
        Command(
            "role <subcommand>",
            "Role related commands",
            commands=[
                Command("add <role name>", "Adds a new role", role_add),
                Command("delete <role name>", "Deletes a role", role_delete),
                Command("get <role name>", "Gets detailed information of a role", role_get),
                Command("list", "Lists all roles", role_list),
                Command(
                    "grant-permission [options] <role name> <permission type> <key> [endkey]",
                    "Grants a key to a role",
                    role_grant_permission,
                    flags=span_flags("grant"),
                ),
                Command(
                    "revoke-permission <role name> <key> [endkey]",
                    "Revokes a key from a role",
                    role_revoke_permission,
                    flags=span_flags("revoke"),
                ),
            ],
        ),
    ]

"""Users and roles: createUser, updateUser, dropUser, usersInfo, createRole, dropRole, rolesInfo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.embedded.auth import shown_privileges
from proxy.embedded.call import Answer, Call, Command, Handler, on_database
from proxy.embedded.failures import failure
from proxy.embedded.roles import Privileges, built_in, collection, resource_of
from proxy.embedded.scram import MECHANISMS
from proxy.embedded.users import Role, User

if TYPE_CHECKING:
    from proxy.embedded.engine import Document


def _name(call: Call) -> str:
    name = call.body[call.name]
    if not isinstance(name, str) or not name:
        raise failure(2, "User document needs 'user' field to be non-empty")
    return name


def _roles(call: Call, value: object) -> tuple[Role, ...]:
    roles: list[Role] = []
    if not isinstance(value, list):
        raise failure(2, '"roles" must be an array')
    for item in value:
        if isinstance(item, str):
            role = (item, call.database)
        elif isinstance(item, dict) and "role" in item and "db" in item:
            role = (str(item["role"]), str(item["db"]))
        else:
            raise failure(2, "Role names must be either strings or objects")
        if not call.node.users.known(role):
            raise failure(31, f"No role named {role[0]}@{role[1]}")
        roles.append(role)
    return tuple(roles)


def _create_user(call: Call) -> Answer:
    name = _name(call)
    if call.node.users.find(name, call.database) is not None:
        raise failure(51003, f'User "{name}@{call.database}" already exists')
    password = call.option("pwd")
    if password is None and call.database != "$external":
        raise failure(
            2,
            "Must provide a 'pwd' field for all user documents, except those with '$external' as "
            "the user's source db",
        )
    roles = _roles(call, call.body.get("roles"))
    mechanisms = tuple(call.option("mechanisms", list(MECHANISMS)))
    call.node.users.add(User(name, call.database, str(password or ""), roles, mechanisms))
    return {}


def _update_user(call: Call) -> Answer:
    user = call.node.users.get(_name(call), call.database)
    password = str(call.option("pwd", user.password))
    roles = _roles(call, call.body["roles"]) if "roles" in call.body else user.roles
    mechanisms = tuple(call.option("mechanisms", list(user.mechanisms)))
    changed = User(user.name, user.database, password, roles, mechanisms)
    user.__dict__.clear()
    user.__dict__.update(changed.__dict__)
    return {}


def _drop_user(call: Call) -> Answer:
    call.node.users.remove(_name(call), call.database)
    return {}


def _grant_roles(call: Call) -> Answer:
    user = call.node.users.get(_name(call), call.database)
    granted = _roles(call, call.body.get("roles"))
    user.roles = tuple(dict.fromkeys(user.roles + granted))
    return {}


def _revoke_roles(call: Call) -> Answer:
    user = call.node.users.get(_name(call), call.database)
    revoked = _roles(call, call.body.get("roles"))
    user.roles = tuple(role for role in user.roles if role not in revoked)
    return {}


def _shown_user(call: Call, user: User) -> Document:
    shown: Document = {
        "_id": f"{user.database}.{user.name}",
        "user": user.name,
        "db": user.database,
        "roles": [{"role": role, "db": database} for role, database in user.roles],
        "mechanisms": list(user.mechanisms),
    }
    if call.option("showPrivileges"):
        shown["inheritedRoles"] = shown["roles"]
        shown["inheritedPrivileges"] = shown_privileges(call.node.users.privileges(user.roles))
    return shown


def _users_info(call: Call) -> Answer:
    users, wanted = call.node.users, call.body[call.name]
    if isinstance(wanted, dict) and wanted.get("forAllDBs"):
        found = list(users)
    elif isinstance(wanted, int | float) and wanted == 1:
        found = [user for user in users if user.database == call.database]
    else:
        names = wanted if isinstance(wanted, list) else [wanted]
        pairs = [
            (str(name.get("user")), str(name.get("db")))
            if isinstance(name, dict)
            else (str(name), call.database)
            for name in names
        ]
        found = [user for pair in pairs if (user := users.find(*pair)) is not None]
    return {"users": [_shown_user(call, user) for user in found]}


def _may_see_users(call: Call) -> None:
    wanted = call.body[call.name]
    own = {"user": call.users[0].name, "db": call.users[0].database} if call.users else None
    if own is not None and (
        wanted == own or (wanted == own["user"] and call.database == own["db"])
    ):
        return
    call.need(collection(call.database, ""), "viewUser")


def _privileges(value: object) -> Privileges:
    granted: Privileges = {}
    if not isinstance(value, list):
        raise failure(2, '"privileges" must be an array')
    for privilege in value:
        where = resource_of(privilege.get("resource", {}))
        granted[where] = granted.get(where, frozenset()) | frozenset(privilege.get("actions", ()))
    return granted


def _create_role(call: Call) -> Answer:
    role = (_name(call), call.database)
    if call.node.users.known(role):
        raise failure(51002, f"Role '{role[0]}@{role[1]}' already exists")
    privileges = _privileges(call.body.get("privileges"))
    call.node.users.add_role(role, privileges, _roles(call, call.body.get("roles")))
    return {}


def _drop_role(call: Call) -> Answer:
    call.node.users.remove_role((_name(call), call.database))
    return {}


def _roles_info(call: Call) -> Answer:
    users, wanted = call.node.users, call.body[call.name]
    if isinstance(wanted, int | float) and wanted == 1:
        found = users.custom_roles(call.database)
    else:
        names = wanted if isinstance(wanted, list) else [wanted]
        found = [
            (str(name.get("role")), str(name.get("db")))
            if isinstance(name, dict)
            else (str(name), call.database)
            for name in names
        ]
    shown = []
    for role in found:
        custom = users.custom_role(role)
        if custom is None and built_in(*role) is None:
            continue
        inherited = (
            [{"role": name, "db": database} for name, database in custom.roles] if custom else []
        )
        entry: Document = {
            "role": role[0],
            "db": role[1],
            "isBuiltin": custom is None,
            "roles": inherited,
            "inheritedRoles": inherited,
        }
        if call.option("showPrivileges"):
            entry["privileges"] = shown_privileges(
                custom.privileges if custom else built_in(*role) or {}
            )
            entry["inheritedPrivileges"] = shown_privileges(users.privileges([role]))
        shown.append(entry)
    return {"roles": shown}


def _on(action: str, run: Handler) -> Command:
    return Command(run, on_database(action), write_concern=True)


COMMANDS: Final = {
    "createUser": _on("createUser", _create_user),
    "updateUser": _on("changePassword", _update_user),
    "dropUser": _on("dropUser", _drop_user),
    "grantRolesToUser": _on("grantRole", _grant_roles),
    "revokeRolesFromUser": _on("revokeRole", _revoke_roles),
    "usersInfo": Command(_users_info, _may_see_users),
    "createRole": _on("createRole", _create_role),
    "dropRole": _on("dropRole", _drop_role),
    "rolesInfo": Command(_roles_info, on_database("viewRole")),
}

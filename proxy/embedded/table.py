"""Every command that the embedded server knows, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy.embedded import (
    admin,
    auth,
    bulk_write,
    catalog,
    find_and_modify,
    get_more,
    hello,
    indexes,
    operations,
    pipelines,
    queries,
    replication,
    session_commands,
    users_admin,
    writes,
)
from proxy.embedded.call import Answer, Call, Command


def _list_commands(call: Call) -> Answer:
    shown = {
        name: {
            "help": "",
            "requiresAuth": not (command.public or call.version.lets_in(name)),
            "adminOnly": command.admin_only,
        }
        for name, command in sorted(COMMANDS.items())
        if call.version.has(name)
    }
    return {"commands": shown}


COMMANDS: Final[Mapping[str, Command]] = {
    **hello.COMMANDS,
    **auth.COMMANDS,
    **users_admin.COMMANDS,
    **queries.COMMANDS,
    **get_more.COMMANDS,
    **pipelines.COMMANDS,
    **writes.COMMANDS,
    **bulk_write.COMMANDS,
    **find_and_modify.COMMANDS,
    **catalog.COMMANDS,
    **indexes.COMMANDS,
    **session_commands.COMMANDS,
    **admin.COMMANDS,
    **operations.COMMANDS,
    **replication.COMMANDS,
    "listCommands": Command(_list_commands),
}

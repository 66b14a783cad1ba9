"""The settings as a JSON schema, by which editors complete and check the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pydantic.json_schema import GenerateJsonSchema

from proxy.settings.config import Config
from proxy.settings.quantities import SIZE_PATTERN, TIME_PATTERN, seconds, size

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import core_schema

_TEXTS: Final[dict[Any, str]] = {seconds: TIME_PATTERN, size: SIZE_PATTERN}

#: A table's heading and a setting in the example, in force or commented out.
_HEADING: Final = re.compile(r"#?\[\[?([\w.]+)\]\]?")
_SETTING: Final = re.compile(r"#?(\w+) = ")


class _Generate(GenerateJsonSchema):
    """As files hold settings: TOML has no null, and times and sizes may be texts."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        made = super().default_schema(schema)
        if made.get("default") is None or isinstance(made["default"], dict):
            made.pop("default", None)
        return made

    def function_before_schema(
        self, schema: core_schema.BeforeValidatorFunctionSchema
    ) -> JsonSchemaValue:
        made = super().function_before_schema(schema)
        pattern = _TEXTS.get(schema["function"]["function"])
        return {"anyOf": [made, {"type": "string", "pattern": pattern}]} if pattern else made


def schema(example: str) -> dict[str, Any]:
    """The schema of the configuration file, with what ``example`` says of each setting."""
    made = Config.model_json_schema(schema_generator=_Generate)
    defined = made.pop("$defs")
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Settings of mongo-session-proxy",
        **_plain(made, defined, _said(example), ""),
    }


def _plain(
    made: Mapping[str, Any], defined: Mapping[str, Any], said: Mapping[str, str], path: str
) -> dict[str, Any]:
    """Without references, which not all editors follow, and without what is said to programmers."""
    if "$ref" in made:
        named = defined[made["$ref"].rpartition("/")[2]]
        return _plain(
            {key: one for key, one in (made | named).items() if key != "$ref"}, defined, said, path
        )
    found: dict[str, Any] = {}
    for key, value in made.items():
        if key == "properties":
            found[key] = {
                name: _plain(one, defined, said, f"{path}.{name}".lstrip("."))
                for name, one in value.items()
            }
        elif key == "items":
            found[key] = _plain(value, defined, said, path)
        elif key not in ("title", "description"):
            found[key] = value
    # A cluster's tables are described where they are the only one's.
    if text := said.get(path) or said.get(path.removeprefix("cluster.")):
        found["description"] = text
    return found


def _said(example: str) -> dict[str, str]:
    """The comments above each table and setting, by its path."""
    found: dict[str, str] = {}
    table, above = "", list[str]()
    for line in example.splitlines():
        if heading := _HEADING.fullmatch(line):
            table = path = heading[1]
        elif setting := _SETTING.match(line):
            path = f"{table}.{setting[1]}"
        else:
            text = line.removeprefix("#").strip()
            if text != "e.g.":
                above = [*above, text] if line else []
            continue
        if above:
            found.setdefault(path, " ".join(above))
        above = []
    return found

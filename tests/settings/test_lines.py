"""Where settings stand in a file."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.settings.lines import lines

TEXT = '''\
# a comment = 1
listen.address = "a # no comment"   # 2
[limits] # 3
"connections" = 5
note = """
[no.table]
x = "y" \\""" = 1
"""""
after = \'\'\'
[nor.here]\'\'\'
[[upstream.members]]
listen = [
  1, # one
  { a = 1, b = [2,
    3] },
]
[[upstream.members]]
tls = { x . "y z" = 1, w = 2 }
[upstream.members.below]
deep = 1979-05-27T07:32:00Z
[policies]
[policies.kill_guard]
'''


def test_each_key_table_and_item_has_its_line() -> None:
    assert {".".join(map(str, path)): line for path, line in lines(TEXT).items()} == {
        "listen": 2,
        "listen.address": 2,
        "limits": 3,
        "limits.connections": 4,
        "limits.note": 5,
        "limits.after": 9,
        "upstream": 11,
        "upstream.members": 11,
        "upstream.members.0": 11,
        "upstream.members.0.listen": 12,
        "upstream.members.0.listen.0": 13,
        "upstream.members.0.listen.1": 14,
        "upstream.members.0.listen.1.a": 14,
        "upstream.members.0.listen.1.b": 14,
        "upstream.members.0.listen.1.b.0": 14,
        "upstream.members.0.listen.1.b.1": 15,
        "upstream.members.1": 17,
        "upstream.members.1.tls": 18,
        "upstream.members.1.tls.x": 18,
        "upstream.members.1.tls.x.y z": 18,
        "upstream.members.1.tls.w": 18,
        "upstream.members.1.below": 19,
        "upstream.members.1.below.deep": 20,
        "policies": 21,
        "policies.kill_guard": 22,
    }


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_ends_of_lines_do_not_matter(end: str) -> None:
    assert lines(TEXT.replace("\n", end)) == lines(TEXT)


def paths(value: Any, above: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    found = {above} if above else set()
    items = enumerate(value) if isinstance(value, list) else ()
    for key, below in value.items() if isinstance(value, dict) else items:
        found |= paths(below, (*above, key))
    return found


WORD = st.text("ab-_0", min_size=1, max_size=3)
KEY = st.one_of(WORD, st.sampled_from(['"a.b"', "'c#d'", '"\\u00e9\\""', '""']))
KEYS = st.lists(KEY, min_size=1, max_size=3).map(".".join)
PLAIN = st.sampled_from(
    ["1", "true", "-1.5e3", "07:32:00", '"x"', "'#]'", '"""\n[a]\n"""', "'''\n}\n'''", '"\\"="']
)
BETWEEN = st.sampled_from(["", " ", "\n", " # ] }\n\t"])


def listed(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    items = st.lists(st.tuples(BETWEEN, values, BETWEEN).map("".join), max_size=3)
    table = st.lists(st.tuples(KEYS, values).map(" = ".join), max_size=3)
    return items.map(lambda some: f"[{','.join(some)}]") | table.map(
        lambda some: f"{{ {', '.join(some)} }}"
    )


VALUES = st.recursive(PLAIN, listed, max_leaves=5)
STATEMENT = st.one_of(
    st.tuples(KEYS, VALUES).map(" = ".join),
    KEYS.map(lambda keys: f"[{keys}]"),
    KEYS.map(lambda keys: f"[[ {keys} ]] # [x]"),
    st.just("# x = 1"),
)


@given(st.lists(STATEMENT, max_size=6).map("\n".join))
def test_all_that_a_file_holds_is_found_and_nothing_else(text: str) -> None:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(lines(text)) == paths(data)

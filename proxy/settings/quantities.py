"""Times and sizes as people write them: "1h30m" and "64MiB" beside plain numbers."""

from __future__ import annotations

import re
from typing import Any, Final

#: From the longest to the shortest, in which order they have to come.
_TIMES: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}

_SIZES: Final = {
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)},
}

_NUMBER: Final = re.compile(r"([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")
_PART: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)")
_WHOLE: Final = re.compile(r"\s*([0-9]+)(?:\.([0-9]+))?\s*([A-Za-z]+)\s*")

#: What a text has to be, for the schema that editors read.
TIME_PATTERN: Final = r"^(\s*[0-9]+(\.[0-9]+)?\s*(d|h|m|s|ms|us))+\s*$"
SIZE_PATTERN: Final = r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtT]i?)?[bB]\s*$"


def seconds(value: Any) -> Any:  # noqa: ANN401 - whatever the file holds
    """Seconds of a text such as "1h30m"; anything that is no text stays what it is.

    Raises:
        ValueError: the text is no such time.
    """
    if not isinstance(value, str):
        return value
    total, at, units = 0.0, 0, list(_TIMES)
    while found := _PART.match(value, at):
        number, unit = found.groups()
        if unit not in units:
            break
        units = units[units.index(unit) + 1 :]
        total += float(number) * _TIMES[unit]
        at = found.end()
    if not at or value[at:].strip():
        raise ValueError(
            'should be a number of seconds or a time such as "250ms", "5m" or "1h30m", '
            f"not {value!r}"
        )
    # What 0.3 s and 300 ms come to must not differ.
    return round(total, 9)


def told_seconds(text: str) -> float:
    """Seconds of a text where there is nothing but texts: "600" as well as "10m".

    Raises:
        ValueError: it is no such time.
    """
    return float(text if _NUMBER.fullmatch(text) else seconds(text))


def size(value: Any) -> Any:  # noqa: ANN401 - whatever the file holds
    """Bytes of a text such as "64MiB"; anything that is no text stays what it is.

    Raises:
        ValueError: the text is no such size.
    """
    if not isinstance(value, str):
        return value
    found = _WHOLE.fullmatch(value)
    unit = found[3] if found else ""
    factor = _SIZES.get(unit.lower())
    if found is None or factor is None:
        letter = unit.lower().removesuffix("i").upper()
        if found is not None and letter in ("K", "M", "G", "T"):
            binary, decimal = f"{letter}iB", f"{letter}B"
            raise ValueError(
                f'{value!r} is not clear: write "{found[1]}{binary}" ({_SIZES[binary.lower()]:,} '
                f'bytes to one) or "{found[1]}{decimal}" ({_SIZES[decimal.lower()]:,})'
            )
        raise ValueError(
            f'should be a number of bytes or a size such as "64MiB" or "1GB", not {value!r}'
        )
    whole, part = found[1], found[2] or ""
    number, rest = divmod(int(whole + part) * factor, 10 ** len(part))
    if rest:
        raise ValueError(f"{value!r} is not a whole number of bytes")
    return number

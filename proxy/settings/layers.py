"""Where settings come from: flags, the environment, secrets in a folder, a file; each a layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from proxy.settings.fields import Path

Kind = Literal["flag", "environment", "secret", "file", "default"]

#: Settings that exclude each other: the one of a higher layer puts the other out of force.
_INSTEAD: Final[tuple[tuple[Path, Path], ...]] = ((("admin", "token"), ("admin", "token_file")),)


class Origin(NamedTuple):
    """Where the value of a setting is from: ``where`` is a flag, a variable or ``file:line``."""

    kind: Kind
    where: str = ""


@dataclass(frozen=True)
class Layer:
    """Settings of one place: ``data`` as a file would hold them, ``where`` each of them stands."""

    kind: Kind
    data: Mapping[str, Any] = field(default_factory=dict)
    where: Mapping[Path, str] = field(default_factory=dict)
    #: What is wrong with the place itself.
    problems: tuple[str, ...] = ()

    def origin(self, path: Path) -> Origin | None:
        """Where ``path`` or the nearest thing around it stands; None if nothing here has it."""
        here: Any = self.data
        in_list = False
        for part in path:
            if isinstance(here, Mapping) and part not in here:
                # A list is taken whole, with what it leaves out.
                return Origin("default") if in_list else None
            if isinstance(here, Mapping):
                here = here[part]
            elif isinstance(here, list) and isinstance(part, int) and part < len(here):
                here = here[part]
                in_list = True
        for length in range(len(path), 0, -1):
            if path[:length] in self.where:
                return Origin(self.kind, self.where[path[:length]])
        return Origin(self.kind)

    def without(self, path: Path) -> Layer:
        """The same without one setting."""
        *tables, name = path
        if self.origin(path) is None:
            return self
        data = dict(self.data)
        here = data
        for table in tables:
            below = here[str(table)]
            if not isinstance(below, Mapping):
                return self
            here[str(table)] = dict(below)
            here = here[str(table)]
        here.pop(str(name), None)
        return Layer(self.kind, data, self.where, self.problems)


def put(data: dict[str, Any], path: Path, value: object) -> None:
    """Set what is at ``path``, with the tables around it."""
    for part in path[:-1]:
        data = data.setdefault(str(part), {})
    data[str(path[-1])] = value


def laid(layers: Sequence[Layer]) -> list[Layer]:
    """``layers``, the highest first, without what a higher one puts out of force."""
    made: list[Layer] = []
    for layer in layers:
        for first, second in _INSTEAD:
            for mine, other in ((first, second), (second, first)):
                if any(above.origin(mine) for above in made):
                    layer = layer.without(other)
        made.append(layer)
    return made


def merged(layers: Iterable[Layer]) -> dict[str, Any]:
    """The data of ``layers``, the highest first, laid over each other."""
    data: dict[str, Any] = {}
    for layer in reversed(list(layers)):
        data = _over(data, layer.data)
    return data


def _over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(base)
    for key, value in over.items():
        below = made.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            value = _over(below, value)
        made[key] = value
    return made

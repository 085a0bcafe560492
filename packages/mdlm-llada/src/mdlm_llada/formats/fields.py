"""The fields of a config.json, by name and type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mdlm_core.errors import CheckpointError


@dataclass
class Fields:
    """Fields of a config.json.

    All methods raise `CheckpointError` for a field that is missing without a default,
    or of another type.
    """

    config: Mapping[str, object]
    where: str

    def has(self, *names: str) -> bool:
        """Return whether all of `names` are there and not null."""
        return all(self.config.get(name) is not None for name in names)

    def integer(self, name: str, default: int | None = None) -> int:
        """Return a whole number."""
        found = self._get(name, default)
        if isinstance(found, bool) or not isinstance(found, int):
            raise self._wrong(name, found, "a whole number")
        return found

    def number(self, name: str, default: float | None = None) -> float:
        """Return a number."""
        found = self._get(name, default)
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise self._wrong(name, found, "a number")
        return float(found)

    def flag(self, name: str, *, default: bool) -> bool:
        """Return true or false."""
        found = self._get(name, default)
        if not isinstance(found, bool):
            raise self._wrong(name, found, "true or false")
        return found

    def token(self, name: str) -> int | None:
        """Return an id, the first of several, or None if it is not named."""
        found = self.config.get(name)
        if isinstance(found, list) and found:
            found = found[0]
        if found is None or (isinstance(found, int) and not isinstance(found, bool)):
            return found
        raise self._wrong(name, found, "an id")

    def only(self, name: str, *allowed: object) -> None:
        """Refuse a field that asks for what is not implemented."""
        found = self.config.get(name)
        if name in self.config and found not in allowed:
            values = " or ".join(shown(value) for value in allowed)
            raise CheckpointError(
                f"{self.where}: {name} is {shown(found)}, which is not implemented "
                f"here; it must be {values}"
            )

    def theta(self, default: float | None = None) -> float:
        """Return the base of the rotary positions; no scaling is known here."""
        scaling = self.config.get("rope_scaling")
        parameters = self.config.get("rope_parameters")
        for name, found in (("rope_scaling", scaling), ("rope_parameters", parameters)):
            if not found:
                continue
            if not isinstance(found, Mapping):
                raise self._wrong(name, found, "null or a mapping")
            kind = found.get("rope_type", found.get("type", "default"))
            if kind != "default":
                raise CheckpointError(
                    f"{self.where}: {name} asks for rotary positions of the kind "
                    f"{shown(kind)}, which is not implemented here; it must be null"
                )
        if isinstance(parameters, Mapping) and "rope_theta" in parameters:
            inner = Fields(parameters, f"{self.where}: rope_parameters")
            return inner.number("rope_theta")
        return self.number("rope_theta", default)

    def _get(self, name: str, default: object) -> object:
        found = self.config.get(name)
        if found is not None:
            return found
        if default is None:
            raise CheckpointError(f"{self.where}: {name} is missing")
        return default

    def _wrong(self, name: str, found: object, kind: str) -> CheckpointError:
        return CheckpointError(
            f"{self.where}: {name} is {shown(found)}; it must be {kind}"
        )


def shown(value: object) -> str:
    """Return a value as JSON has it."""
    names = {True: "true", False: "false", None: "null"}
    if value is None or isinstance(value, bool):
        return names[value]
    return repr(value)

"""Settings of the simulated bank: size, seed, world, and the parameters behind them, checked field by field."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any

from crmresearch import words
from crmresearch.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel


REFERENCE = "wider"  # world of the bank `reference`: every mechanism at work
BLOCK = 1024  # customers drawn from one random stream; results depend on it, so it is fixed


@functools.cache
def worlds() -> dict[str, dict[str, Any]]:
    """Return the worlds of ``worlds.yaml`` by name."""
    text = (files(__package__) / "worlds.yaml").read_text(encoding="utf-8")
    loaded: dict[str, dict[str, Any]] = words.parsed(text)
    for world in loaded.values():
        if "like" in world:  # one that stands above
            world["changes"] = {**loaded[world.pop("like")]["changes"], **world["changes"]}
    return loaded


def world_names() -> tuple[str, ...]:
    """Return the names of the worlds; ``baseline`` first."""
    return tuple(worlds())


@functools.cache
def _models() -> tuple[type[BaseModel], type[BaseModel]]:
    # pydantic is slow to import, and a bank that is only read needs none of this
    from pydantic import BaseModel, ConfigDict, Field, create_model

    bounds = words.parsed((files(__package__) / "bounds.yaml").read_text(encoding="utf-8"))
    by_name = {name: kind for kind in bounds for name in kind.pop("names")}

    def kind_of(name: str, like: Any) -> Any:
        if isinstance(like, dict):
            key, value = next(iter(like.items()))
            return dict[type(key), kind_of(name, value)]  # type: ignore[misc]
        limits = by_name.get(name, {"ge": -5, "le": 5})  # an effect
        whole = limits.get("multiple_of") == 1
        return Annotated[int, Field(**limits)] if whole else Annotated[float, Field(**limits, allow_inf_nan=False)]

    baseline = worlds()["baseline"]["parameters"]
    strict = ConfigDict(extra="forbid", frozen=True)
    fields: dict[str, Any] = {name: (kind_of(name, like), ...) for name, like in baseline.items()}
    parameters = create_model("Parameters", __config__=strict, **fields)

    class Size(BaseModel):
        model_config = strict
        customers: Annotated[int, Field(ge=1, le=100_000_000, strict=True)]
        months: Annotated[int, Field(ge=2, le=600, strict=True)]
        seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)]

    return Size, parameters


def _checked(model: type[BaseModel], values: Mapping[str, Any]) -> BaseModel:
    from pydantic import ValidationError

    try:
        return model(**values)
    except ValidationError as error:
        problems = []
        for p in error.errors():
            name = ".".join(str(part) for part in p["loc"])
            unknown = p["type"] == "extra_forbidden"
            problems.append(
                f"{name}: no such setting" if unknown else f"{name}={p['input']!r}: {p['msg'][0].lower()}{p['msg'][1:]}"
            )
        raise InputError("settings of the simulated bank refused: " + "; ".join(problems)) from None


@dataclass(frozen=True)
class Settings:
    """Size, seed and world of a simulated bank.

    Parameters
    ----------
    customers : int
        Customers in the tables (observed at least one day); at least 1.
    months : int
        Length of the observation, which starts on 1 January 2021; at least 2.
    seed : int
        Equal seeds give equal bytes; 0 or more.
    world : str
        A name in ``worlds.yaml``.
    changes : mapping, optional
        Parameters that differ from the world's, e.g. ``{"frailty_variance": 0}``.

    Raises
    ------
    InputError
        A value out of bounds or an unknown name; the message names the field and its bounds.
    """

    customers: int = 20_000
    months: int = 60
    seed: int = 1
    world: str = "baseline"
    changes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.world not in worlds():
            raise InputError(
                f"world={self.world!r}: no such world of the simulated bank; there are {', '.join(worlds())}"
            )
        size, _ = _models()
        _checked(size, {"customers": self.customers, "months": self.months, "seed": self.seed})
        _ = self.parameters

    @functools.cached_property
    def parameters(self) -> Any:
        """Every parameter of the world, checked (a pydantic model; ``model_dump()`` gives a dictionary)."""
        _, model = _models()
        base = dict(worlds()["baseline"]["parameters"])
        return _checked(model, {**base, **worlds()[self.world].get("changes", {}), **self.changes})

    @property
    def rows(self) -> int:
        """Customers the world gives: fewer than asked for in ``small``."""
        return min(self.customers, worlds()[self.world].get("most_customers", self.customers))

    @property
    def blocks(self) -> int:
        """Number of random streams per purpose."""
        return -(-self.rows // BLOCK)

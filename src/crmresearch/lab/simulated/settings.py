"""Settings of the simulated bank: size, seed, world, and the parameters behind them, checked field by field."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any

import yaml

from crmresearch.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel


BLOCK = 1024  # customers drawn from one random stream; results depend on it, so it is fixed


@functools.cache
def worlds() -> dict[str, dict[str, Any]]:
    """Return the worlds of ``worlds.yaml`` by name."""
    text = (files(__package__) / "worlds.yaml").read_text(encoding="utf-8")
    loaded: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return loaded


def world_names() -> tuple[str, ...]:
    """Return the names of the worlds; ``baseline`` first."""
    return tuple(worlds())


@functools.cache
def _models() -> tuple[type[BaseModel], type[BaseModel]]:
    # pydantic is slow to import, and a bank that is only read needs none of this
    from pydantic import BaseModel, ConfigDict, Field, create_model

    rate = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
    probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    inner = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
    effect = Annotated[float, Field(ge=-5, le=5, allow_inf_nan=False)]
    money = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
    positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
    correlation = Annotated[float, Field(gt=-1, lt=1, allow_inf_nan=False)]
    kinds: dict[str, Any] = {
        "history_years": Annotated[float, Field(ge=0, le=60)],
        "channel_share": dict[str, inner],
        "channel_spend": dict[str, money],
        "channel_win": dict[str, inner],
        "ease_value": correlation,
        "voluntary_shape": Annotated[float, Field(gt=0.2, le=3)],
        "frailty_variance": Annotated[float, Field(ge=0, le=5)],
        "rundown_months": Annotated[int, Field(ge=0, le=24)],
        "rundown_depth": probability,
        "balance_pareto": Annotated[float, Field(ge=0, le=50)],
        "vip_threshold": positive,
        "dose_scale": positive,
        "referral_fade_years": positive,
        "target_slope": Annotated[float, Field(ge=0, le=50)],
        "family_rate": dict[str, rate],
        "dose_costs": dict[str, money],
        "consent_marketing": inner,
        "target_share": inner,
        "response": inner,
        "paths": dict[str, correlation],
        "persistence": probability,
        "item_loading": inner,
        "cities": dict[int, Annotated[int, Field(ge=1, le=500)]],
        "rival_share": dict[int, probability],
        "taste": dict[str, dict[str, effect]],
    }
    probabilities = (
        "survey_share",
        "choice_share",
        "failed_share",
        "one_factor",
        "market_share_loss",
        "complaint_month",
        "complaint_unmet",
    )
    moneys = ("balance_median", "fee", "service_cost", "risk_loss", "allocated_cost", "care_cost", "contact_cost")
    rates = {"spend_spread", "voluntary_rate", "bank_rate", "dormant_rate", "unknown_rate", "death_rate",
             "balance_spread", "balance_noise", "margin", "service_spread", "risk_rate", "family_close",
             "develop_boost", "transactions_month", "mobile_rate", "visits_month", "care_rate", "care_vip",
             "intention_factor"}  # fmt: skip
    baseline = worlds()["baseline"]["parameters"]
    for name in baseline:
        kinds.setdefault(
            name,
            probability if name in probabilities else money if name in moneys else rate if name in rates else effect,
        )
    strict = ConfigDict(extra="forbid", frozen=True)
    fields: dict[str, Any] = {name: (kinds[name], ...) for name in baseline}
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

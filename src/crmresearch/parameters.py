"""Typed notebook parameters: one model per notebook; unknown names, wrong types and values out of range are refused.

A default here equals the one in the notebook's parameters cell (a test compares the two).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crmresearch.errors import InputError


class Parameters(BaseModel):
    """What every notebook takes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    bank_name: str = Field(
        "reference", min_length=1, description="bank to study; a name shown by: crmresearch bank list"
    )


class CustomerBase(Parameters):
    """Parameters of ``00_customer_base``."""

    tenure_band_years: int = Field(2, ge=1, le=10, description="width of a tenure band, years, 1 to 10")
    seed: int = Field(2026, ge=0, description="seed of folds and resamples, 0 or more")


class CustomerValue(Parameters):
    """Parameters of ``01_customer_value``."""

    window_months: int = Field(12, ge=1, le=120, description="window of value per customer, months, 1 to 120")
    sweep_months: list[int] = Field(
        [3, 6, 12, 24, 36], min_length=1, max_length=12, description="windows to compare, months, each 1 to 120"
    )
    core_share: float = Field(0.2, gt=0, lt=1, description="best share of customers called core, 0 to 1")
    horizon_months: int = Field(60, ge=1, le=240, description="months ahead that customer value counts, 1 to 240")
    annual_discount: float = Field(0.1, ge=0, le=1, description="effective annual discount rate, 0 to 1")
    calibration_share: float = Field(
        0.5, ge=0.2, le=0.9, description="share of the purchase history used to calibrate, 0.2 to 0.9"
    )
    spend_margin: float = Field(
        0.3, gt=0, le=1, description="contribution per unit of spend where only spend is known, 0 to 1"
    )
    time_unit: Literal["day", "week", "month"] = Field("week", description="unit of purchase times: day, week or month")
    resamples: int = Field(999, ge=99, le=9999, description="bootstrap resamples, 99 to 9999")
    seed: int = Field(2026, ge=0, description="seed of resamples, 0 or more")


class ChurnSurvival(Parameters):
    """Parameters of ``02_churn_survival``."""

    dormant_months: int = Field(
        6, ge=1, le=36, description="months without a transaction that count as dormant, 1 to 36"
    )
    incidence_months: int = Field(24, ge=3, le=120, description="months at which incidence is told, 3 to 120")
    compared_months: int = Field(120, ge=12, le=360, description="tenure up to which groups are compared, 12 to 360")
    prediction_months: int = Field(12, ge=3, le=36, description="horizon of exit predictions, months, 3 to 36")
    landmark_months: int = Field(24, ge=6, le=240, description="months from start to landmark date, 6 to 240")
    resamples: int = Field(200, ge=50, le=2000, description="bootstrap resamples, 50 to 2000")
    seed: int = Field(2026, ge=0, description="seed of resamples, 0 or more")


class SatisfactionLoyalty(Parameters):
    """Parameters of ``04_satisfaction_loyalty``."""

    wave: int = Field(
        1, ge=0, le=100, description="survey wave of the measurement and path models, 1 to 100; 0 takes all together"
    )
    scheme: Literal["centroid", "factorial", "path"] = Field(
        "centroid", description="inner weights of the path model: centroid, factorial or path"
    )
    scaled: bool = Field(False, description="divide every item by its own standard deviation: true or false")
    horizon_months: int = Field(12, ge=1, le=60, description="follow-up after a wave, months, 1 to 60")
    lag_months: int = Field(3, ge=0, le=24, description="months between an answer and the start of follow-up, 0 to 24")
    stated_leaving: str = Field(
        "switch_chance", min_length=1, description="survey column with the stated chance of leaving"
    )
    other_banks: str = Field(
        "other_banks", min_length=1, description="survey column with the number of other banks used"
    )
    marker: str = Field("weather", min_length=1, description="survey column that theory links to nothing")
    group: str = Field("city_tier", min_length=1, description="survey column that names the groups to compare")
    response_gamma: float = Field(
        1.5, ge=1, le=10, description="factor by which the odds of answering may be off, 1 to 10"
    )
    resamples: int = Field(999, ge=99, le=9999, description="bootstrap resamples, 99 to 9999")
    seed: int = Field(2026, ge=0, description="seed of resamples, 0 or more")


class AcquisitionRetentionCost(Parameters):
    """Parameters of ``03_acquisition_retention_cost``."""

    tenure_months: int = Field(
        60, ge=12, le=240, description="tenure at which the cost of a whole tenure ends, months, 12 to 240"
    )
    effect_months: int = Field(
        12, ge=1, le=36, description="months after a campaign contact that its effect is counted, 1 to 36"
    )
    ramp_months: int = Field(
        24, ge=1, le=120, description="tenure from which a customer counts as established, months, 1 to 120"
    )
    target_share: float = Field(0.3, gt=0, lt=1, description="share of customers a targeting rule may pick, 0 to 1")
    annual_discount: float = Field(0.1, gt=0, le=1, description="effective annual discount rate, above 0, at most 1")
    resamples: int = Field(400, ge=99, le=9999, description="bootstrap resamples, 99 to 9999")
    seed: int = Field(2026, ge=0, description="seed of resamples, 0 or more")


class Recovery(Parameters):
    """Parameters of ``90_recovery``."""

    world: str = Field(
        "baseline", min_length=1, description="world of the simulated bank shown in the main figure; one of worlds.yaml"
    )
    study: Literal["base", "value", "churn", "cost", "loyalty", "all"] = Field(
        "all", description="study shown: base, value, churn, cost, loyalty or all"
    )


MODELS: dict[str, type[Parameters]] = {
    "00_customer_base": CustomerBase,
    "01_customer_value": CustomerValue,
    "03_acquisition_retention_cost": AcquisitionRetentionCost,
    "02_churn_survival": ChurnSurvival,
    "04_satisfaction_loyalty": SatisfactionLoyalty,
    "90_recovery": Recovery,
}


def _explain(model: type[Parameters], error: Mapping[str, Any]) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, model.model_fields, 1)
        hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(model.model_fields)}"
        return f"no parameter {name}; {hint}"
    field = model.model_fields.get(name)
    about = f" ({field.description})" if field is not None and field.description else ""
    message = str(error["msg"])
    return f"{name} = {error['input']!r}: {message[0].lower()}{message[1:]}{about}"


def check(notebook: str, values: Mapping[str, Any]) -> Parameters:
    """Check a notebook's parameters; those not given keep their defaults.

    Parameters
    ----------
    notebook : str
        Name without ending, e.g. ``"00_customer_base"``.
    values : mapping
        Parameter values by name.

    Raises
    ------
    InputError
        If the notebook or a name is unknown (the nearest valid one is named), or a value has the wrong type or range.
    """
    model = MODELS.get(notebook)
    if model is None:
        near = difflib.get_close_matches(notebook, MODELS, 1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(MODELS)}"
        raise InputError(f"no parameters are known for a notebook {notebook}; {hint}")
    try:
        return model(**values)
    except ValidationError as error:
        reasons = "; ".join(_explain(model, e) for e in error.errors())
        raise InputError(f"{notebook}: {reasons}") from None


def split(notebooks: Iterable[str], values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Give each notebook the parameters it takes, and check them.

    A name is valid if any of the notebooks takes it.

    Raises
    ------
    InputError
        If no selected notebook takes a name, or a value is refused by one that does.
    """
    chosen = list(notebooks)
    fields = {name: MODELS[name].model_fields if name in MODELS else {} for name in chosen}
    known = sorted({field for names in fields.values() for field in names})
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"they take {', '.join(known)}"
            raise InputError(f"none of the selected notebooks takes a parameter {name}; {hint}")
    out = {}
    for notebook in chosen:
        part = {k: v for k, v in values.items() if k in fields[notebook]}
        if notebook in MODELS:
            check(notebook, part)
        out[notebook] = part
    return out

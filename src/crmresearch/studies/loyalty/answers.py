"""What the studies of the survey share: the declared model, its items, and results that say what is missing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec

import pandas as pd

from crmresearch import words
from crmresearch.errors import InputError, Missing, NotApplicable, answered
from crmresearch.estimators.inference import Estimate
from crmresearch.estimators.measurement.model import ROLES, PathModel, complete_answers, playing
from crmresearch.figures import Mark, Picture
from crmresearch.result import Check, Result, gate, study

say = words.of("loyalty.answers")
# The European satisfaction index (Fornell 1992; ECSI Technical Committee 1998), for banks that declare no paths:
# what points to each construct.
DEFAULT_PATHS = {
    "expectation": ("image",),
    "quality": ("expectation",),
    "value": ("expectation", "quality"),
    "satisfaction": ("image", "expectation", "quality", "value"),
    "loyalty": ("image", "satisfaction"),
}
P = ParamSpec("P")


def survey_study(function: Callable[P, Result]) -> Callable[P, Result]:
    """Make a study of the survey: what is missing, too small or cannot be fitted gives a result that says so."""
    return study(function, "survey")


def respondents() -> Check:
    """Declare what every link between answers and something else takes on trust: those who did not answer are alike."""
    return gate(say, "respondents", None)


def _pair(path: Any) -> tuple[str, str]:
    if isinstance(path, Mapping):
        path = (path.get("from"), path.get("to"))
    parts = re.split(r"\s*->\s*", path) if isinstance(path, str) else list(path)
    if len(parts) != 2 or not all(isinstance(p, str) and p for p in parts):
        raise InputError(say("path", path=path))
    return parts[0].strip(), parts[1].strip()


@answered()
def declared_model(constructs: Mapping[str, Any] | None, paths: Iterable[Any] | None, survey: Any = ()) -> PathModel:
    """Make the model a bank declares; where it declares none, the default satisfaction index on its item columns.

    Parameters
    ----------
    constructs : mapping
        Construct to its items, or to a mapping with ``items`` and optionally ``mode``, ``reversed`` and ``scale``.
    paths : iterable
        ``[from, to]`` pairs or ``"from -> to"``. None or empty: :data:`DEFAULT_PATHS` among the roles present.
    survey : DataFrame or sequence of str
        The survey table or its columns. Without declared constructs, columns that share a stem and end in a number form
        one construct (``sat1``, ``sat2``).
    """
    parts = {c: b if isinstance(b, Mapping) else {"items": b} for c, b in (constructs or {}).items()}
    blocks = {c: tuple(b.get("items", ())) for c, b in parts.items()} or _numbered(survey)
    scales = {c: (float(b["scale"][0]), float(b["scale"][1])) for c, b in parts.items() if "scale" in b}
    declared = [_pair(p) for p in (paths or ())]
    if not declared:
        own = {role: name for role in ROLES if (name := playing(role, blocks))}
        declared = [(own[a], own[b]) for b, sources in DEFAULT_PATHS.items() for a in sources if {a, b} <= set(own)]
    return PathModel(
        blocks,
        declared,
        {c: str(b["mode"]) for c, b in parts.items() if "mode" in b},
        [i for b in parts.values() for i in b.get("reversed", ())],
        scales or None,
    )


def _numbered(survey: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Constructs of a survey that declares none: columns of one stem, numbered, whose stem plays a role."""
    stems: dict[str, list[str]] = {}
    for column in survey:
        match = re.fullmatch(r"([A-Za-z][A-Za-z_]*?)_?\d+", column)
        if match and match[1].lower().startswith(tuple(p for prefixes in ROLES.values() for p in prefixes)):
            stems.setdefault(match[1], []).append(column)
    blocks = {stem: tuple(items) for stem, items in stems.items() if len(items) > 1}
    if not blocks:
        raise InputError(say("constructs"))
    return blocks


@answered(lambda missing: missing, (NotApplicable,), "survey")
def prepare_items(frame: pd.DataFrame, model: PathModel) -> pd.DataFrame | Missing:
    """Return the items of complete answers, or why there are too few (see :func:`.complete_answers`).

    Rows with any missing item are dropped (their share is reported by :func:`.measurement.item_summary`).
    """
    return complete_answers(frame, model)


def cells(estimate: Estimate, value: str = "estimate") -> dict[str, float]:
    """Value and interval of an estimate as cells of a table."""
    return {value: estimate.value, "low": estimate.ci_low, "high": estimate.ci_high}


def tabled(found: Mapping[str, Estimate], label: str, value: str = "estimate") -> pd.DataFrame:
    """Table of estimates with intervals, one line a label."""
    return pd.DataFrame({label: name, **cells(e, value), "n": e.n} for name, e in found.items())


def forest(
    table: pd.DataFrame,
    label: str,
    value: str,
    title: str,
    x: str,
    group: str = "group",
    mark: float | None = 0,
    **options: Any,
) -> Picture:
    """Picture of estimates with intervals (columns ``low`` and ``high``), one line a label; groups side by side."""
    data = table.rename(columns={label: "label", value: "estimate", group: "group"})
    marks = [] if mark is None else [Mark(mark, style="limit")]
    return Picture("intervals", data, title, x, options={"marks": marks, **options})

"""Which way effects run: lags between waves both ways, changes within customers, and mediation with its doubts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import FitError, Missing, NotApplicable
from crmresearch.estimators.inference import Estimate, normal
from crmresearch.estimators.measurement.lags import Lagged, lagged_slopes, mediation_effects
from crmresearch.estimators.measurement.model import PathModel, complete_answers, construct_scores
from crmresearch.estimators.measurement.moments import percentile
from crmresearch.estimators.measurement.panel import answers_with_accounts, change_slope, consecutive
from crmresearch.estimators.measurement.response import clustered_mean
from crmresearch.estimators.measurement.within import within_customer
from crmresearch.figures import Mark, Picture
from crmresearch.result import Result, gate
from crmresearch.rules import nobodys, whose
from crmresearch.studies.loyalty.answers import cells, forest, respondents, survey_study, tabled
from crmresearch.studies.loyalty.form import two_slopes

say = words.of("loyalty.dynamics")
MIN_PAIRS = 100
MIN_PANEL = 200  # customers who answered three waves
DISTINCT = 0.95  # least share of resamples with clearly distinct constructs
TARGETS = ("satisfaction", "loyalty")


@survey_study
def cross_lagged(joined: pd.DataFrame, model: PathModel, *, resamples: int = 500, seed: int) -> Result:
    """Which way does it run: satisfaction to later loyalty, loyalty to later satisfaction?

    Each outcome is regressed on all construct scores of the wave before, over all pairs of consecutive waves. The error
    variance of the scores (1 - omega) is taken off the moments, since error in satisfaction would otherwise show up as
    an effect of loyalty. Customers are resampled with all their waves. What is stable about a customer counts here.

    With three waves, the random-intercept model (effects around a customer's own level) is beside it and estimates
    ``S48b`` (loyalty to later satisfaction).
    """
    model.need(*TARGETS)
    roles = [r for r in ("image", "expectation", "quality", "value", *TARGETS) if model.role(r)]
    core = model.only(*(str(model.role(r)) for r in roles))
    blocks = {r: core.constructs[str(core.role(r))] for r in roles}
    items = complete_answers(joined, core)
    rows = joined.loc[items.index, ["customer_id", "wave"]].join(items)
    pairs = consecutive(rows, list(core.items))
    if len(pairs) < MIN_PAIRS:
        raise NotApplicable(say("lagged.few", n=len(pairs), needed=MIN_PAIRS))
    columns = [i for r in roles for i in blocks[r]] + [f"{i}_next" for r in TARGETS for i in blocks[r]]
    x, who = pairs[columns].to_numpy(float), pd.factorize(pairs["customer_id"])[0]
    before, after = ([len(blocks[r]) for r in part] for part in (roles, TARGETS))
    fit = lagged_slopes(x, before, after, resamples=resamples, seed=seed, cluster=who)
    found = {
        (source, target): percentile(fit.slopes[:, roles.index(source), j], say("lagged.unit"), len(pairs))
        for j, target in enumerate(TARGETS)
        for source in TARGETS
    }
    back, forth = found["loyalty", "satisfaction"], found["satisfaction", "loyalty"]
    lines = [(pair, say("lagged.between"), e) for pair, e in found.items()]
    within = _random_intercepts(rows, core, roles, fit)
    lines += [(pair, say("lagged.within"), e) for pair, e in within.items()]
    table = pd.DataFrame(
        {"effect": say("lagged.effect", source=a, target=b), "route": route, **cells(e), "n": e.n}
        for (a, b), route, e in lines
    )
    sentence = say("lagged.sentence", back=back, forth=forth)
    drawn = table.assign(route=[say("lagged.route", route=r, n=e.n) for _, r, e in lines])
    clear = [name for e, name in ((back, "back"), (forth, "forth")) if e.ci_low > 0 or e.ci_high < 0]
    title, axis = say.names("lagged.titles")["_".join(clear) or "none"], say("lagged.x")
    picture = forest(drawn, "effect", "estimate", title, axis, "route")
    checks = (respondents(), gate(say, "lagged.gate", fit.distinct >= DISTINCT, share=fit.distinct, needed=DISTINCT))
    own = within.get(("loyalty", "satisfaction"), Missing(say("lagged.three", needed=MIN_PANEL), ("survey",)))
    estimates = {"S48b": own, "loyalty_to_later_satisfaction": back, "satisfaction_to_later_loyalty": forth}
    return Result(table, sentence, checks, estimates, picture=picture)


def _random_intercepts(
    rows: pd.DataFrame, model: PathModel, roles: list[str], fit: Lagged
) -> dict[tuple[str, str], Estimate]:
    """Within-customer effects where at least 200 customers answered three waves; nothing otherwise."""
    letters = dict(zip(("x", "y"), TARGETS, strict=True))
    scores = construct_scores(rows[list(model.items)], model)
    own = rows[["customer_id", "wave"]].assign(**{v: scores[str(model.role(r))] for v, r in letters.items()})
    wide = own.pivot(index="customer_id", columns="wave", values=["x", "y"])  # noqa: PD010
    waves = int(rows["wave"].nunique())
    wide.columns = pd.Index([f"{v}{i % waves + 1}" for v in "xy" for i in range(waves)])
    wide = wide.dropna()
    if waves < 3 or len(wide) < MIN_PANEL:
        return {}
    error = [1 - float(fit.omega[0, roles.index(r)]) for r in TARGETS]
    try:
        paths = within_customer(wide, waves, error=(error[0], error[1]))
    except FitError:
        return {}
    out = {}
    for row in paths.to_dict("records"):
        source, _, target = row["path"].split()
        e = normal(row["estimate"], row["se"], say("lagged.unit"), len(wide))
        out[letters[source], letters[target]] = e
    return out


@survey_study
def drift(joined: pd.DataFrame, model: PathModel, *, banks: str = "other_banks") -> Result:
    """What changes from one wave to the next, within customers: privacy concern (S16) and banks used (S48).

    Customers who answered two waves in a row, so that who joins or leaves the survey moves nothing; errors by customer.

    Parameters
    ----------
    joined : DataFrame
        Answers with ``customer_id``, ``wave`` and ``wave_on``.
    banks : str
        Column that counts the other banks a customer uses.
    """
    answers = answers_with_accounts(joined, model)
    asked = {"S16": ("privacy", say("drift.privacy"), say("drift.deviations"))}
    asked["S48"] = (banks, say("drift.banks"), say("drift.count"))
    found: dict[str, Estimate] = {}
    estimates: dict[str, Estimate | Missing] = dict.fromkeys(asked, Missing(say("drift.absent"), ("survey",)))
    for line, (column, name, unit) in asked.items():
        if column in answers.columns:
            pairs = consecutive(answers.dropna(subset=[column]), [column, "wave_on"])
            if len(pairs) < MIN_PAIRS:
                estimates[line] = Missing(say("changes.few", n=len(pairs), needed=MIN_PAIRS), ("survey",))
                continue
            years = (pairs["wave_on_next"] - pairs["wave_on"]).dt.days.to_numpy(float) / 365.25
            speed = (pairs[f"{column}_next"] - pairs[column]).to_numpy(float) / years
            mean, se = clustered_mean(speed, pairs["customer_id"].to_numpy())
            estimates[line] = found[name] = normal(mean, se, unit, int(pairs["customer_id"].nunique()))
    if not found:
        raise NotApplicable(" ".join(dict.fromkeys(str(m) for m in estimates.values())), "survey")
    told = "; ".join(say("drift.told", what=name, estimate=e) for name, e in found.items())
    table, sentence = tabled(found, "what", "change_per_year"), say("drift.sentence", told=told)
    picture = forest(table, "what", "change_per_year", say("drift.title"), say("drift.x"))
    return Result(table, sentence, estimates=estimates, picture=picture)


@survey_study
def changes(joined: pd.DataFrame, model: PathModel) -> Result:
    """Changes within customers between waves: satisfaction against loyalty, stay and later contribution.

    Whatever is fixed about a customer drops out; waves have their own intercepts; standard errors by customer.
    Measurement error weighs more in a change than in a level, so slopes are conservative.
    """
    model.need(*TARGETS)
    answers = answers_with_accounts(joined, model)
    units = {"loyalty": say("changes.deviations"), "contribution_after": say("changes.money")}
    outcomes = [c for c in units if c in answers.columns]
    pairs = consecutive(answers, ["satisfaction", *outcomes])
    if len(pairs) < MIN_PAIRS:
        raise NotApplicable(say("changes.few", n=len(pairs), needed=MIN_PAIRS))
    both = {name: pairs.dropna(subset=[name, f"{name}_next"]) for name in outcomes}
    found = {name: change_slope(p, name, units[name]) for name, p in both.items() if len(p) >= MIN_PAIRS}
    table = pd.DataFrame({"outcome": name, "unit": e.unit, **cells(e, "slope"), "n": e.n} for name, e in found.items())
    table["whose"] = [whose(both[n][f"{n}_next"]) if n == "contribution_after" else nobodys("a score") for n in found]
    table = safe(table, parts=False)
    sentence = say("changes.sentence", slope=found["loyalty"])
    rises = found["loyalty"].ci_low > 0
    title = say("changes.title", slope=found["loyalty"]) if rises else say("changes.title_open")
    picture = forest(table.iloc[:1], "outcome", "slope", title, say("changes.x"))
    return Result(table, sentence, picture=picture, money=["slope", "low", "high"])


@survey_study
def change_asymmetry(joined: pd.DataFrame, model: PathModel) -> Result:
    """Does a fall of a customer's satisfaction between waves weigh more in loyalty than a rise of the same size?"""
    model.need(*TARGETS)
    pairs = consecutive(answers_with_accounts(joined, model), list(TARGETS))
    moved, change = ((pairs[f"{c}_next"] - pairs[c]).to_numpy(float) for c in TARGETS)
    return two_slopes(moved, change, (say("changes.fall"), say("changes.rise")), pairs["customer_id"].to_numpy())


@survey_study
def mediation(items: pd.DataFrame, model: PathModel, *, resamples: int = 1000, seed: int) -> Result:
    """How strong would an unmeasured common cause have to be to explain the indirect effect away?

    Quality to satisfaction to loyalty, by least squares on scores, other predictors held equal. The sensitivity
    parameter is the correlation of the two disturbances (:class:`.Mediation`).
    """
    quality, sat, loyal = model.need("quality", *TARGETS)
    x = items[list(model.items)].to_numpy(float)
    fit = mediation_effects(x, model, (quality, sat, loyal), resamples=resamples, seed=seed)
    samples = {
        say("mediation.first"): fit.to_mediator,
        say("mediation.second"): fit.to_outcome,
        say("mediation.indirect"): fit.indirect,
        say("mediation.direct"): fit.direct,
        say("mediation.rho"): fit.rho,
    }
    found = {name: percentile(sample, say("mediation.unit"), len(x)) for name, sample in samples.items()}
    table = tabled(found, "quantity")
    indirect, rho = found[say("mediation.indirect")], found[say("mediation.rho")]
    sentence = say("mediation.sentence", indirect=indirect, rho=rho)
    grid = np.linspace(-0.9, 0.9, 73)
    marks = [Mark(0, axis="y"), Mark(rho.value, say("mediation.mark", rho=rho), "estimate")]
    options = {"marks": marks, "spans": [(rho.ci_low, rho.ci_high, "")]}
    axes = (say("mediation.title", rho=rho), say("mediation.x"), say("mediation.y", n=len(x)))
    picture = Picture("curves", pd.DataFrame({"x": grid, "y": fit.under(grid), "n": len(x)}), *axes, options=options)
    checks = (gate(say, "mediation.gate", None, rho=rho),)
    estimates = {"indirect": indirect}
    return Result(table, sentence, checks, estimates, picture=picture)

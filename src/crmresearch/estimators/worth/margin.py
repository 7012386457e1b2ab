r"""What a customer is worth where accounts have a beginning and an end: survival times margin.

The value of a customer of tenure :math:`t` over the next :math:`H` months, paid at the end of each month, is

.. math:: V = \sum_{k=1}^{H} (1+d)^{-k/12}\; S(t+k \mid t)^{\theta}\,
              \bigl(\mu_{t+k} + b\,\rho^{(k-6.5)^+/12}\,\delta\bigr)

with the annual discount rate :math:`d`, the chance :math:`S` to be a customer still, the mean contribution
:math:`\mu` of those who are (both by month of tenure, with late entry), the hazard ratio :math:`\theta` of the
customer's value band, and the customer's own deviation :math:`\delta` from the mean, of which a share :math:`b` lasts
into the next year and :math:`\rho` from year to year after that. Contribution may be negative, and nothing is assumed
about its distribution or its independence of tenure, unlike gamma-gamma models of spend.

Intervals come from a delete-a-group jackknife: customers are dealt into groups, everything is refitted without each
group in turn, so months of one customer never count as independent.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import InputError, answered
from crmresearch.estimators.frames import need, without_each
from crmresearch.estimators.inference import Jackknife, jackknife
from crmresearch.estimators.worth.stability import CUTS, band_codes, band_names
from crmresearch.rules import whose

MIN_AT_RISK = 50  # customers a month of tenure needs to stand for itself
TAIL = 12  # months pooled into the level that continues the curves beyond the last such month


def monthly_discount(annual_rate: float) -> float:
    """Discount factor of one month for an effective annual rate: ``(1 + annual_rate) ** (-1 / 12)``."""
    if not annual_rate > -1:
        raise InputError(f"annual_rate is {annual_rate}; an effective rate lies above -1 (write 10% as 0.10)")
    return (1 + annual_rate) ** (-1 / 12)


def _by_tenure(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Hazard, margin, at risk (of all) and exits by tenure month; first axis: all, then without each group."""
    need(table, "tenure table", "fold", "tenure_month", "n", "at_risk", "exits", "contribution")
    folds, codes = np.unique(table["fold"].to_numpy(), return_inverse=True)
    month = table["tenure_month"].to_numpy(dtype=int)
    if month.min() < 0:
        raise InputError(f"tenure table: {int((month < 0).sum())} rows have a negative tenure_month; check acquired_on")
    if many := int((table["exits"] > table["n"]).sum()):
        raise InputError(f"tenure table: {many} rows have more exits than customers")
    size = (folds.size, month.max() + 1)
    total = {}
    for name in ("n", "at_risk", "exits", "contribution"):
        cells = np.zeros(size)
        np.add.at(cells, (codes, month), table[name].to_numpy(dtype=float))
        total[name] = without_each(cells)
    at_risk = total["at_risk"][0]
    good = np.flatnonzero(at_risk >= MIN_AT_RISK)
    if good.size == 0:
        raise InputError(f"no month of tenure has {MIN_AT_RISK} customers; the largest has {int(at_risk.max())}")
    months = np.arange(size[1])
    curves = []
    for name, base in (("exits", "at_risk"), ("contribution", "n")):
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = total[name] / total[base]
        tail = good[-TAIL:]
        level = total[name][:, tail].sum(axis=1) / total[base][:, tail].sum(axis=1)
        filled = np.stack([np.interp(months, good, row[good]) for row in rate])
        filled[:, good[-1] + 1 :] = level[:, None]
        curves.append(np.column_stack([filled, level]))  # the last column continues for ever
    return curves[0], curves[1], at_risk, total["exits"][0]


@dataclass(frozen=True)
class MarginModel:
    """A fitted survival x margin model; rows of arrays: all customers, then without each group.

    Attributes
    ----------
    hazard, margin : array, (groups + 1, months + 1)
        Chance to leave after a month of tenure, and mean contribution in it; the last column continues for ever.
    at_risk, exits : array, (months,)
        Customers and exits behind them.
    ratio : array, (groups + 1, bands)
        Hazard ratio of each value band.
    lasting : array, (groups + 1, 2)
        Share of a personal deviation that lasts one year, and from year to year after that.
    cuts : tuple of float
        Cuts of the value bands.
    groups : array
        Labels of the groups, in order.
    own : tuple of str
        Names of the bank's own value bands, which stand in the place of cuts; empty where it has none.
    gross : array, (groups, months)
        Sum of the sizes of contributions by group and month of tenure.
    """

    hazard: np.ndarray
    margin: np.ndarray
    at_risk: np.ndarray
    exits: np.ndarray
    ratio: np.ndarray
    lasting: np.ndarray
    cuts: tuple[float, ...]
    groups: np.ndarray
    own: tuple[str, ...] = ()
    gross: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def whose(self, *months: Any) -> Any:
        """Say whose the contribution of some months of tenure is; of none, that of all months together."""
        return whose(*(self.gross[:, m].sum(axis=1) for m in months or (slice(None),)))

    @property
    def seen(self) -> np.ndarray:
        """Months of tenure with enough customers at risk to stand for themselves."""
        return np.flatnonzero(self.at_risk >= MIN_AT_RISK)

    def codes(self, frame: pd.DataFrame) -> np.ndarray:
        """Place of each customer's group in ``groups``."""
        return np.searchsorted(self.groups, frame["fold"].to_numpy())

    def deviation(self, frame: pd.DataFrame) -> np.ndarray:
        """Own mean monthly contribution less that of the tenure months it was earned in, ``(groups + 1, n)``."""
        tenure, months = frame["tenure"].to_numpy(dtype=int), frame["months_before"].to_numpy(dtype=int)
        if (months < 1).any():
            raise InputError(f"{int((months < 1).sum())} customers have no month before the date; leave them out")
        padded = np.pad(self.margin, ((0, 0), (1, max(0, int(tenure.max()) + 2 - self.margin.shape[1]))), mode="edge")
        padded[:, 0] = 0
        total = np.cumsum(padded, axis=1)
        start = np.maximum(tenure + 1 - months, 0)
        usual = (total[:, tenure + 1] - total[:, start]) / (tenure + 1 - start)
        return frame["before"].to_numpy(dtype=float) / months - usual

    def factors(self, longest: int, horizon_months: int, annual_discount: float) -> tuple[np.ndarray, np.ndarray]:
        """Worth of the mean customer, and of one unit of deviation, ``(groups + 1, bands, tenure)``."""
        if horizon_months < 1:
            raise InputError(f"horizon_months is {horizon_months}; it must be 1 or more")
        v = monthly_discount(annual_discount)
        at = np.minimum(np.arange(longest + horizon_months + 2), self.margin.shape[1] - 1)
        stay = np.log1p(-np.minimum(self.hazard[:, at], 1 - 1e-12))
        alive = np.concatenate([np.zeros((len(stay), 1)), np.cumsum(stay, axis=1)], axis=1)
        margin, t = self.margin[:, at], np.arange(longest + 1)
        shape = (len(stay), self.ratio.shape[1], longest + 1)
        worth, unit = np.zeros(shape), np.zeros(shape)
        for k in range(1, horizon_months + 1):
            chance = np.exp((alive[:, t + k] - alive[:, t])[:, None, :] * self.ratio[:, :, None])
            worth += v**k * chance * margin[:, None, t + k]
            fade = self.lasting[:, 0] * self.lasting[:, 1] ** (max(k - 6.5, 0) / 12)
            unit += v**k * chance * fade[:, None, None]
        return worth, unit

    def values(
        self, frame: pd.DataFrame, horizon_months: int, annual_discount: float, common: bool = False
    ) -> np.ndarray:
        """Value of each customer, ``(groups + 1, n)``; with ``common`` every band has the same survival.

        Parameters
        ----------
        frame : DataFrame
            ``fold``, ``tenure`` (months), ``months_before`` and ``before`` (contribution of those months), one row per
            customer.
        horizon_months : int
            Months ahead that count; payments at month ends.
        annual_discount : float
            Effective annual rate; 0 for plain sums.
        """
        need(frame, "customers", "fold", "tenure", "months_before", "before")
        tenure = frame["tenure"].to_numpy(dtype=int)
        if tenure.size == 0:
            raise InputError("no customers to value")
        if (tenure < 0).any():
            raise InputError(f"{int((tenure < 0).sum())} customers have negative tenure; check acquired_on")
        own = self.deviation(frame)
        model = replace(self, ratio=np.ones_like(self.ratio)) if common else self
        worth, unit = model.factors(int(tenure.max()), horizon_months, annual_discount)
        at = (np.arange(len(own))[:, None], self.band_codes(frame), tenure)
        return worth[at] + unit[at] * own

    def band_codes(self, frame: pd.DataFrame) -> np.ndarray:
        """Index of each customer's value band, by mean monthly contribution before the date, ``(groups + 1, n)``.

        Bands of the bank's own come with the customers (``band``). Cuts are ranks, so each row ranks among its own
        customers. Were bands held fixed, the error would lack that of the cuts: half the variance of the best band's
        mean where the tail is exponential.
        """
        if self.own:
            return np.tile(frame["band"].cat.codes.to_numpy(dtype=int), (len(self.groups) + 1, 1))
        level = frame["before"].to_numpy(dtype=float) / frame["months_before"].to_numpy(dtype=float)
        fold = frame["fold"].to_numpy()
        left_out = [band_codes(level, self.cuts, fold != group) for group in self.groups]
        return np.stack([band_codes(level, self.cuts), *left_out])


def _slopes(x: np.ndarray, y: np.ndarray, codes: np.ndarray, groups: int) -> np.ndarray:
    """Least-squares slopes of y on x: all, then without each group; x and y ``(groups + 1, n)``."""
    out = np.empty(groups + 1)
    for g in range(groups + 1):
        use = codes != g - 1
        dx, dy = x[g, use] - x[g, use].mean(), y[g, use] - y[g, use].mean()
        # where nobody deviates from the mean course nothing can last
        out[g] = dx @ dy / (dx @ dx) if dx @ dx > 0 else 0.0
    return out


@answered()
def fit_margin(table: pd.DataFrame | Any, landmark: pd.DataFrame | Any) -> MarginModel:
    """Fit the survival x margin model.

    Parameters
    ----------
    table : DataFrame
        ``fold``, ``tenure_month``, ``n``, ``at_risk``, ``exits``, ``contribution``
        (``reductions.value.tenure_margin``).
    landmark : DataFrame
        Customers at an earlier date and what became of them (``reductions.value.customers_at``): ``customer_id``,
        ``fold``, ``tenure``, ``months_before``, ``before``, ``months_after``, ``after`` (12 months), ``months_second``,
        ``second`` (the 12 months after those).

    Returns
    -------
    MarginModel
        Or the :class:`.Missing` that was passed in.

    Raises
    ------
    InputError
        If columns are missing, too few customers are followed, or contribution does not vary.
    """
    hazard, margin, at_risk, exits = _by_tenure(table)
    columns = ("fold", "tenure", "months_before", "before", "months_after", "after", "months_second", "second")
    need(landmark, "customers at the landmark", *columns)
    groups, folds = np.unique(table["fold"].to_numpy()), landmark["fold"].to_numpy()
    if not np.isin(folds, groups).all():
        raise InputError("the landmark has groups that the tenure table lacks; make both with the same number of folds")
    codes = np.searchsorted(groups, folds)
    if len(landmark) < MIN_AT_RISK:
        raise InputError(f"{len(landmark)} customers at the landmark; at least {MIN_AT_RISK} are needed")
    rows = len(groups) + 1
    own = tuple(landmark["band"].cat.categories) if "band" in landmark else ()
    ones = np.ones((rows, len(own) or len(CUTS) + 2))
    draft = MarginModel(hazard, margin, at_risk, exits, ones, np.ones((rows, 2)), CUTS, groups, own)
    deviation = draft.deviation(landmark)
    lasting = np.ones((rows, 2))
    for step, (money, count, lag) in enumerate((("after", "months_after", 1), ("second", "months_second", 13))):
        n = landmark[count].to_numpy(dtype=int)
        here = n > 0
        if here.sum() < MIN_AT_RISK:
            raise InputError(
                f"{int(here.sum())} customers are still there {lag} months after the landmark; take a later one"
            )
        tenure = landmark["tenure"].to_numpy(dtype=int)[here] + lag + n[here] - 1
        later = pd.DataFrame(
            {"tenure": tenure, "months_before": n[here], "before": landmark[money].to_numpy(dtype=float)[here]}
        )
        lasting[:, step] = _slopes(deviation[:, here], draft.deviation(later), codes[here], len(groups))
    lasting[:, 0] = np.clip(lasting[:, 0], 0, None)
    with np.errstate(divide="ignore", invalid="ignore"):
        lasting[:, 1] = np.where(lasting[:, 0] > 0, np.clip(lasting[:, 1] / lasting[:, 0], 0, 1), 0)
    gross = np.zeros((len(groups), 1 + int(table["tenure_month"].max())))
    size = table.get("gross_contribution", table["contribution"].abs()).to_numpy(float)
    np.add.at(gross, (np.searchsorted(groups, table["fold"]), table["tenure_month"].to_numpy(int)), size)
    return replace(draft, gross=gross, ratio=_band_ratios(draft, landmark, codes), lasting=lasting)


def _band_ratios(draft: MarginModel, landmark: pd.DataFrame, codes: np.ndarray) -> np.ndarray:
    """Observed over expected cumulative hazard of the year after the landmark, by band (indirect standardisation)."""
    tenure = landmark["tenure"].to_numpy(dtype=int)
    at = np.minimum(np.arange(tenure.max() + 13), draft.hazard.shape[1] - 1)
    path = np.concatenate(
        [np.zeros((len(draft.hazard), 1)), np.cumsum(-np.log1p(-draft.hazard[:, at]), axis=1)], axis=1
    )
    # months lived through after the landmark carry the expected hazard; the month of the last row ends it
    lived = landmark["months_after"].to_numpy(dtype=int)
    left = lived < 12
    expected = path[:, tenure + np.minimum(lived + 1, 12)] - path[:, tenure]
    band = draft.band_codes(landmark)
    ratio = np.ones_like(draft.ratio)
    count = ratio.shape[1]
    for g in range(len(ratio)):
        use = codes != g - 1
        observed = np.bincount(band[g, use], weights=left[use].astype(float), minlength=count)
        awaited = np.bincount(band[g, use], weights=expected[g, use], minlength=count)
        total = observed.sum() / awaited.sum() if awaited.sum() > 0 else 1.0
        # a band of few customers borrows from all: two prior exits at the common rate
        ratio[g] = (observed + 2) / (awaited + 2 / max(total, 1e-12)) / max(total, 1e-12)
    return ratio


def group_means(values: np.ndarray, model: MarginModel, frame: pd.DataFrame, inside: np.ndarray) -> np.ndarray:
    """Mean value of the customers ``inside``: all, then without each group (of customers and of the fit).

    ``inside`` is one row for all, or ``(groups + 1, n)`` where who belongs depends on who is left out.
    """
    inside = np.broadcast_to(inside, values.shape)
    codes = model.codes(frame)
    out = np.empty(len(values))
    for g in range(len(values)):
        use = inside[g] & (codes != g - 1)
        if not use.any():
            raise InputError("a value band lives in one group of customers only; widen the bands")
        out[g] = values[g, use].mean()
    return out


def tenure_years(model: MarginModel) -> pd.DataFrame:
    """Retention and mean contribution by year of tenure.

    Returns
    -------
    DataFrame
        ``year``, ``stay`` (chance to stay the year, ``stay_low``, ``stay_high``), ``money`` (mean monthly contribution
        of those who are there, ``ci_low``, ``ci_high``), ``n`` (most customers at risk in a month), ``exits``,
        ``whose`` money it is, of the year and of each of its months, which are drawn.
    """
    first, last = model.seen[[0, -1]]
    rows: list[dict[str, Any]] = []
    for year in range(first // 12, last // 12 + 1):
        inside = np.arange(max(12 * year, first), min(12 * year + 12, last + 1))
        at_risk = model.at_risk[inside]
        stay = jackknife(np.exp(np.log1p(-model.hazard[:, inside]).sum(axis=1) * 12 / inside.size))
        mean = jackknife((model.margin[:, inside] * at_risk).sum(axis=1) / at_risk.sum())
        people = {"n": int(at_risk.max()), "exits": int(model.exits[inside].sum())}
        rows.append({"year": year + 1, **stay.columns("stay"), **mean.columns("money", "ci"), **people})
        rows[-1]["whose"] = model.whose(inside, *inside[:, None])
    table = pd.DataFrame(rows)
    return table.assign(stay_low=table["stay_low"].clip(lower=0), stay_high=table["stay_high"].clip(upper=1))


def tenure_months(model: MarginModel) -> tuple[np.ndarray, Jackknife, Jackknife]:
    """Months of tenure seen, the share still there of those who reached the first, and mean contribution by month."""
    first, last = model.seen[[0, -1]]
    stay = np.cumsum(np.log1p(-model.hazard[:, first:last]), axis=1)
    alive = np.exp(np.pad(stay, ((0, 0), (1, 0))))
    return np.arange(first, last + 1), jackknife(alive), jackknife(model.margin[:, first : last + 1])


@dataclass(frozen=True)
class BandValues:
    """Value of the coming months, per customer and by value band; see :func:`value_by_band`.

    Attributes
    ----------
    values : array, (groups + 1, n)
        Value of each customer.
    band : array of str, (n,)
        Value band of each customer.
    table : DataFrame
        ``band``, ``estimate`` (mean, ``ci_low``, ``ci_high``), ``share`` (of the value of all, ``share_low``,
        ``share_high``), ``ratio`` (of hazards, ``hr_low``, ``hr_high``), ``n``.
    mean : Jackknife
        Mean value of all.
    bands : dict of str to Jackknife
        Mean value by band.
    gap, alone : Jackknife
        Best less lowest band, and what that were if all bands left at the same rate.
    """

    values: np.ndarray
    band: np.ndarray
    table: pd.DataFrame
    mean: Jackknife
    bands: dict[str, Jackknife]
    gap: Jackknife
    alone: Jackknife


def value_by_band(
    model: MarginModel, frame: pd.DataFrame, horizon_months: int, annual_discount: float, *, smallest: int
) -> BandValues:
    """Mean value by band, with what margin alone and what longer survival give.

    Parameters
    ----------
    model : MarginModel
    frame : DataFrame
        Customers as for :meth:`MarginModel.values`.
    horizon_months, annual_discount
        As there.
    smallest : int
        Customers a band needs.
    """
    values = model.values(frame, horizon_months, annual_discount)
    codes, names = model.band_codes(frame), model.own or band_names(model.cuts)
    everyone = np.ones(len(frame), dtype=bool)
    overall = group_means(values, model, frame, everyone)
    rows, means = [], {}
    for code, name in enumerate(names):
        inside = codes == code
        n = int(inside[0].sum())
        if n < smallest:
            continue
        means[code] = group_means(values, model, frame, inside)
        share = jackknife(group_means(np.where(inside, values, 0.0), model, frame, everyone) / overall)
        ratio = jackknife(model.ratio[:, code]).columns("ratio", "hr")
        mean = jackknife(means[code]).columns("estimate", "ci")
        rows.append({"band": name, **mean, **share.columns("share"), **ratio, "n": n})
    if len(means) < 2:
        raise InputError(f"only {len(means)} value band has {smallest} customers; a comparison needs two")
    low, high = min(means), max(means)
    common = model.values(frame, horizon_months, annual_discount, common=True)
    alone = group_means(common, model, frame, codes == high) - group_means(common, model, frame, codes == low)
    bands = {names[code]: jackknife(mean) for code, mean in means.items()}
    gap, every = jackknife(means[high] - means[low]), jackknife(overall)
    return BandValues(values, np.array(names)[codes[0]], pd.DataFrame(rows), every, bands, gap, jackknife(alone))

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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import disclosure, figures
from crmresearch.errors import InputError, Missing
from crmresearch.estimators.inference import Estimate
from crmresearch.result import Check, Result, study
from crmresearch.studies.value.common import interval, jackknife, symlog_histogram
from crmresearch.studies.value.stability import CUTS, band_codes, band_names

MIN_AT_RISK = 50  # customers a month of tenure needs to stand for itself
TAIL = 12  # months pooled into the level that continues the curves beyond the last such month


def monthly_discount(annual_rate: float) -> float:
    """Discount factor of one month for an effective annual rate: ``(1 + annual_rate) ** (-1 / 12)``."""
    if not annual_rate > -1:
        raise InputError(f"annual_rate is {annual_rate}; an effective rate lies above -1 (write 10% as 0.10)")
    return (1 + annual_rate) ** (-1 / 12)


def _need(frame: pd.DataFrame, what: str, *columns: str) -> None:
    lacking = [c for c in columns if c not in frame.columns]
    if lacking:
        raise InputError(f"{what}: no column {', '.join(lacking)}; it has {', '.join(map(str, frame.columns))}")
    for column in columns:
        if column != "customer_id" and (bad := int((~np.isfinite(frame[column].to_numpy(dtype=float))).sum())):
            raise InputError(f"{what}: {column} is missing or infinite in {bad} rows")


def _without(totals: np.ndarray) -> np.ndarray:
    """Stack all groups' total on the totals without each group."""
    full = totals.sum(axis=0)
    return np.concatenate([full[None], full - totals])


def _by_tenure(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Hazard, margin, at risk (of all) and exits by tenure month; first axis: all, then without each group."""
    _need(table, "tenure table", "fold", "tenure_month", "n", "at_risk", "exits", "contribution")
    folds, codes = np.unique(table["fold"].to_numpy(), return_inverse=True)
    month = table["tenure_month"].to_numpy(dtype=int)
    if month.min() < 0:
        raise InputError(f"tenure table: {int((month < 0).sum())} rows have a negative tenure_month; check acquired_on")
    if (table["exits"] > table["n"]).any():
        raise InputError(
            f"tenure table: {int((table['exits'] > table['n']).sum())} rows have more exits than customers"
        )
    size = (folds.size, month.max() + 1)
    total = {}
    for name in ("n", "at_risk", "exits", "contribution"):
        cells = np.zeros(size)
        np.add.at(cells, (codes, month), table[name].to_numpy(dtype=float))
        total[name] = _without(cells)
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
    """

    hazard: np.ndarray
    margin: np.ndarray
    at_risk: np.ndarray
    exits: np.ndarray
    ratio: np.ndarray
    lasting: np.ndarray
    cuts: tuple[float, ...]
    groups: np.ndarray

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
        _need(frame, "customers", "fold", "tenure", "months_before", "before")
        tenure = frame["tenure"].to_numpy(dtype=int)
        if tenure.size == 0:
            raise InputError("no customers to value")
        if (tenure < 0).any():
            raise InputError(f"{int((tenure < 0).sum())} customers have negative tenure; check acquired_on")
        own = self.deviation(frame)
        model = self
        if common:
            model = MarginModel(**{**self.__dict__, "ratio": np.ones_like(self.ratio)})
        worth, unit = model.factors(int(tenure.max()), horizon_months, annual_discount)
        at = (np.arange(len(own))[:, None], self.band_codes(frame), tenure)
        return worth[at] + unit[at] * own

    def band_codes(self, frame: pd.DataFrame) -> np.ndarray:
        """Index of each customer's value band, by mean monthly contribution before the date, ``(groups + 1, n)``.

        Cuts are ranks, so each row ranks among its own customers. Were bands held fixed, the error would lack that of
        the cuts: half the variance of the best band's mean where the tail is exponential.
        """
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


def fit_margin(
    table: pd.DataFrame | Missing, landmark: pd.DataFrame | Missing, *, cuts: Sequence[float] = CUTS
) -> MarginModel | Missing:
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
    cuts : sequence of float
        Cuts of the value bands.

    Returns
    -------
    MarginModel
        Or the :class:`Missing` that was passed in.

    Raises
    ------
    InputError
        If columns are missing, too few customers are followed, or contribution does not vary.
    """
    if isinstance(table, Missing):
        return table
    if isinstance(landmark, Missing):
        return landmark
    hazard, margin, at_risk, exits = _by_tenure(table)
    columns = ("fold", "tenure", "months_before", "before", "months_after", "after", "months_second", "second")
    _need(landmark, "customers at the landmark", *columns)
    groups, folds = np.unique(table["fold"].to_numpy()), landmark["fold"].to_numpy()
    if not np.isin(folds, groups).all():
        raise InputError("the landmark has groups that the tenure table lacks; make both with the same number of folds")
    codes = np.searchsorted(groups, folds)
    if len(landmark) < MIN_AT_RISK:
        raise InputError(f"{len(landmark)} customers at the landmark; at least {MIN_AT_RISK} are needed")
    names = band_names(cuts)
    rows = len(groups) + 1
    draft = MarginModel(
        hazard, margin, at_risk, exits, np.ones((rows, len(names))), np.ones((rows, 2)), tuple(cuts), groups
    )
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
    ratio = _band_ratios(draft, landmark, codes, len(names))
    return MarginModel(hazard, margin, at_risk, exits, ratio, lasting, tuple(cuts), groups)


def _band_ratios(draft: MarginModel, landmark: pd.DataFrame, codes: np.ndarray, count: int) -> np.ndarray:
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
    ratio = np.ones((len(draft.hazard), count))
    for g in range(len(ratio)):
        use = codes != g - 1
        observed = np.bincount(band[g, use], weights=left[use].astype(float), minlength=count)
        awaited = np.bincount(band[g, use], weights=expected[g, use], minlength=count)
        total = observed.sum() / awaited.sum() if awaited.sum() > 0 else 1.0
        # a band of few customers borrows from all: two prior exits at the common rate
        ratio[g] = (observed + 2) / (awaited + 2 / max(total, 1e-12)) / max(total, 1e-12)
    return ratio


@study
def tenure_curves(model: MarginModel) -> Result:
    """Retention and mean contribution by tenure, the two factors of the value.

    Parameters
    ----------
    model : MarginModel
        From :func:`fit_margin`.

    Returns
    -------
    Result
        By year of tenure: customers at risk, exits, chance to stay the year, mean monthly contribution of those who are
        there, both with jackknife intervals. Curves start at the first tenure with enough customers at risk.
    """
    good = np.flatnonzero(model.at_risk >= MIN_AT_RISK)
    first, last = int(good[0]), int(good[-1])
    years = range(first // 12, last // 12 + 1)
    rows = []
    for year in years:
        inside = np.arange(max(12 * year, first), min(12 * year + 12, last + 1))
        at_risk = model.at_risk[inside]
        stay = np.exp(np.log1p(-model.hazard[:, inside]).sum(axis=1) * 12 / inside.size)
        mean = (model.margin[:, inside] * at_risk).sum(axis=1) / at_risk.sum()
        s, m = jackknife(stay), jackknife(mean)
        stays = (s[0], max(s[2], 0.0), min(s[3], 1.0))
        rows.append((year + 1, *stays, m[0], m[2], m[3], int(at_risk.max()), int(model.exits[inside].sum())))
    columns = ["year of tenure", "stay the year", "stay_low", "stay_high", "monthly contribution"]
    columns += ["ci_low", "ci_high", "n", "exits"]
    table = pd.DataFrame(rows, columns=columns)
    b, rho = jackknife(model.lasting[:, 0]), jackknife(model.lasting[:, 1])
    shown = table[(table["n"] >= disclosure.MIN_CELL) & (table["exits"] >= disclosure.MIN_CELL)]
    if shown.empty:
        raise InputError(f"no year of tenure has {disclosure.MIN_CELL} exits; the survival factor cannot be shown")
    a, z = shown.iloc[0], shown.iloc[-1]
    sentence = (
        f"In year {a['year of tenure']:.0f} of tenure "
        f"{interval(a['stay the year'], a['stay_low'], a['stay_high'], '.1%')} stay, in year "
        f"{z['year of tenure']:.0f} {interval(z['stay the year'], z['stay_low'], z['stay_high'], '.1%')}. Of a "
        f"customer's own deviation from the mean, {interval(b[0], b[2], b[3], '.0%')} lasts a year, and "
        f"{interval(rho[0], rho[2], min(rho[3], 1), '.0%')} of that each further year."
    )
    enough = Check.of(
        "at risk", good.size >= 12, f"{good.size} months of tenure have {MIN_AT_RISK} customers or more; 12 are needed"
    )

    def draw(axes: Any) -> Any:
        left, right = axes
        month = np.arange(first, last + 1)
        alive = np.exp(
            np.concatenate(
                [np.zeros((len(model.hazard), 1)), np.cumsum(np.log1p(-model.hazard[:, first:last]), axis=1)], axis=1
            )
        )
        for ax, curve in ((left, alive), (right, model.margin[:, first : last + 1])):
            value, _, low, high = jackknife(curve)
            ax.plot(month, value, color=figures.ACCENT)
            figures.interval_band(ax, month, low, high)
        left.set(
            title="Customers who are still there",
            xlabel="months of tenure",
            ylabel=f"share, given {first} months reached",
            ylim=(0, 1.02),
        )
        right.set(
            title="Mean contribution of those who are", xlabel="months of tenure", ylabel="money per month, 95% band"
        )
        figures.percent_axis(left)
        low_n, high_n = int(model.at_risk[good].min()), int(model.at_risk[good].max())
        figures.note(left, f"at risk {low_n:,} to {high_n:,}\n95% band")
        return axes

    alt = (
        f"Left: a falling curve of customers who remain, from {first} to {last} months of tenure. Right: mean "
        f"monthly contribution by tenure, {a['monthly contribution']:,.1f} in the first year shown and "
        f"{z['monthly contribution']:,.1f} in the last."
    )
    return Result(table, sentence, (enough,), {}, draw, alt, counts=("n", "exits"), panels=2)


def group_means(values: np.ndarray, model: MarginModel, frame: pd.DataFrame, inside: np.ndarray) -> np.ndarray:
    """Mean value of the customers ``inside``: all, then without each group (of customers and of the fit).

    ``inside`` is one row for all, or ``(groups + 1, n)`` where who belongs depends on who is left out.
    """
    inside = np.broadcast_to(inside, values.shape)
    codes = np.searchsorted(model.groups, frame["fold"].to_numpy())
    out = np.empty(len(values))
    for g in range(len(values)):
        use = inside[g] & (codes != g - 1)
        if not use.any():
            raise InputError("a value band lives in one group of customers only; widen the bands")
        out[g] = values[g, use].mean()
    return out


@study
def clv_by_band(
    model: MarginModel, frame: pd.DataFrame, *, horizon_months: int = 60, annual_discount: float = 0.1
) -> Result:
    """Survival-weighted value of the coming months, per customer and by value band.

    Parameters
    ----------
    model : MarginModel
    frame : DataFrame
        Customers at the valuation date (``reductions.value.customers_at``): ``customer_id``, ``fold``, ``tenure``,
        ``months_before``, ``before``.
    horizon_months : int
        Months that count.
    annual_discount : float
        Effective annual rate; payments at month ends.

    Returns
    -------
    Result
        Mean value by band with intervals (customers and model); the gap between best and worst band split into what
        margin alone gives and what longer survival adds; S57. ``details["customers"]`` holds value and interval
        (of the expected value) per customer, for ``restricted/`` only; ``details["bands"]`` mean, standard error and
        interval by band.
    """
    _need(frame, "customers", "fold", "tenure", "months_before", "before")
    values = model.values(frame, horizon_months, annual_discount)
    common = model.values(frame, horizon_months, annual_discount, common=True)
    codes, names = model.band_codes(frame), band_names(model.cuts)
    ratio = jackknife(model.ratio)
    everyone = np.ones(len(frame), dtype=bool)
    overall = group_means(values, model, frame, everyone)
    rows, means, bands = [], {}, {}
    for code, name in enumerate(names):
        inside = codes[0] == code
        if inside.sum() < disclosure.MIN_CELL:
            continue
        means[code] = group_means(values, model, frame, codes == code)
        bands[name] = jackknife(means[code])
        part = group_means(np.where(codes == code, values, 0.0), model, frame, everyone)
        row = (*np.array(bands[name])[[0, 2, 3]], *np.array(jackknife(part / overall))[[0, 2, 3]])
        rows.append((name, *row, ratio[0][code], ratio[2][code], ratio[3][code], int(inside.sum())))
    columns = ["band", "value per customer", "ci_low", "ci_high", "share of value", "share_low", "share_high"]
    columns += ["hazard ratio", "hr_low", "hr_high", "n"]
    table = pd.DataFrame(rows, columns=columns)
    if len(means) < 2:
        raise InputError(f"only {len(means)} value band has {disclosure.MIN_CELL} customers; a comparison needs two")
    low_band, high_band = min(means), max(means)
    gap, se, gap_low, gap_high = jackknife(means[high_band] - means[low_band])
    alone = group_means(common, model, frame, codes == high_band) - group_means(common, model, frame, codes == low_band)
    margin_part, _, part_low, part_high = jackknife(alone)
    n = int(((codes[0] == low_band) | (codes[0] == high_band)).sum())
    estimate = Estimate(float(gap), float(gap_low), float(gap_high), "money per customer", n, se=float(se))
    every = jackknife(overall)
    sentence = (
        f"The coming {horizon_months} months of a customer are worth "
        f"{interval(every[0], every[2], every[3], ',.0f')} on average at {annual_discount:.0%} a year. The band "
        f"{names[high_band]} is worth {interval(gap, gap_low, gap_high, ',.0f')} more per customer than the band "
        f"{names[low_band]}; margin alone would make that {interval(margin_part, part_low, part_high, ',.0f')}, "
        "the rest is survival."
    )
    _, _, own_low, own_high = jackknife(values)
    customers = pd.DataFrame(
        {
            "customer_id": frame["customer_id"].to_numpy(),
            "value": values[0],
            "ci_low": own_low,
            "ci_high": own_high,
            "band": np.array(names)[codes[0]],
        }
    )

    def draw(ax: Any) -> Any:
        symlog_histogram(ax, values[0], figures.ACCENT, f"expected value, n = {len(frame):,}")
        ax.set(
            ylabel="customers",
            xlabel=f"value of {horizon_months} months, month-end payments, {annual_discount:.0%} a year, symmetric log",
        )
        ax.axvline(every[0], color=figures.PALETTE[1], label=f"mean {interval(every[0], every[2], every[3], ',.0f')}")
        ax.set_title("Expected value per customer")
        ax.legend(loc="best")
        return ax

    alt = (
        f"Histogram of expected customer value on a symmetric log axis; the mean lies at {every[0]:,.0f} and "
        f"{(values[0] < 0).mean():.0%} of customers have a negative value."
    )
    details = {"customers": customers, "values": values, "mean": every, "bands": bands}
    return Result(table, sentence, (), {"S57": estimate}, draw, alt, digits=2, details=details)

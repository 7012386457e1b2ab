"""Study 3 against published figures: closed forms, the Blattberg-Deighton optimum, and the SMCRM teaching data."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import entropy

from crmresearch.estimators.causal.selection import two_step
from crmresearch.estimators.inference import logit_fit
from crmresearch.estimators.spending.budget import Curve, optimum
from crmresearch.estimators.spending.retention import customer_value, elasticities
from crmresearch.estimators.spending.winning import win_model
from crmresearch.ledger import lines, verdict
from crmresearch.studies import cost

SHARED = Path(os.environ.get("CRMRESEARCH_SHARED", Path(__file__).parents[2] / "shared"))
SMCRM = SHARED / "data" / "smcrm"
needs_smcrm = pytest.mark.skipif(not SMCRM.is_dir(), reason="the SMCRM files are not here (set CRMRESEARCH_SHARED)")

# --- C02, C03, C04, C07: closed forms -----------------------------------------------------------------------------


# Gupta, Lehmann & Stuart (2004), table: retention elasticity by firm. The closed form ignores growth of the customer
# base, so it agrees with their figures only to within one point.
@pytest.mark.parametrize(
    ("retention", "published"), [(0.70, 2.45), (0.95, 6.75), (0.85, 5.12), (0.80, 3.42), (0.95, 6.67)]
)
def test_retention_elasticity_lies_near_the_published_one(retention, published):
    found = elasticities(1.0, retention, 0.12)
    assert found["retention"] == pytest.approx(published, abs=1.0)
    assert found["retention"] == pytest.approx(1.12 / (1.12 - retention), rel=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.08, 0.32])
def test_margin_elasticity_is_one_plus_that_of_acquisition_cost(share):
    """In the published table the two differ by exactly one (1.07 and 0.07, 1.32 and 0.32 ...)."""
    gross = customer_value(100, 0.8, 0.12, "residual")
    found = elasticities(100, 0.8, 0.12, gross * share / (1 + share))
    assert found["margin"] - found["acquisition_cost"] == pytest.approx(1.0)
    assert found["acquisition_cost"] == pytest.approx(share)


def test_elasticities_are_derivatives():
    m, r, d, a, h = 120.0, 0.83, 0.09, 60.0, 1e-6

    def net(m=m, r=r, d=d, a=a):
        return customer_value(m, r, d, "residual") - a

    found = elasticities(m, r, d, a)
    for name, up, down in (
        ("retention", net(r=r * (1 + h)), net(r=r * (1 - h))),
        ("margin", net(m=m * (1 + h)), net(m=m * (1 - h))),
        ("discount_rate", net(d=d * (1 - h)), net(d=d * (1 + h))),
        ("acquisition_cost", net(a=a * (1 - h)), net(a=a * (1 + h))),
    ):
        assert found[name] == pytest.approx((up - down) / (2 * h) / net(), rel=1e-6)


def test_expected_life_overstates_value():
    value = customer_value(100, 0.8, 0.12, "residual")
    five_years = sum(100 / 1.12**k for k in range(1, 6))  # expected life 1 / (1 - r) = 5
    assert value == pytest.approx(250.0)
    assert five_years == pytest.approx(360.48, abs=0.01)
    assert five_years / value - 1 == pytest.approx(0.442, abs=0.001)


@pytest.mark.parametrize("timing", ["at once", "residual", "end of period"])
def test_three_formulas_are_sums_of_their_timelines(timing):
    m, r, d, k = 7.0, 0.6, 0.1, np.arange(400)
    sums = {
        "at once": np.sum(m * (r / (1 + d)) ** k),
        "residual": np.sum(m * (r / (1 + d)) ** (k + 1)),
        "end of period": np.sum(m * r**k / (1 + d) ** (k + 1)),
    }
    assert customer_value(m, r, d, timing) == pytest.approx(sums[timing], rel=1e-12)


@pytest.mark.parametrize(
    ("retention", "counted", "not_counted", "undiscounted"),
    [(0.80, 20.0, 27.5, 33.3), (0.85, 25.0, 32.4, 50.0), (0.90, 33.3, 40.7, 100.0)],
)
def test_five_points_of_retention(retention, counted, not_counted, undiscounted):
    """C07: gains in percent at 10% discount; printed with one decimal."""
    table = cost.five_points(retention, 0.10).table
    assert (100 * table["gain"]).tolist() == pytest.approx([counted, not_counted, undiscounted], abs=0.1)


# --- C10: the optimum -----------------------------------------------------------------------------------------------

CASES = [
    # m, ca, ka, cr, kr, then A, R, CE, CLV, average ratio; all with d = 10%
    (50, 0.4, 0.05, 0.8, 0.1, 10.7983, 19.2621, 3.5189, 85.793, 2.3),
    (80, 0.4, 0.02, 0.8, 0.1, 16.1069, 26.2472, 2.8968, 172.509, 4.13),
    (50, 0.4, 0.05, 0.95, 0.2, 28.739, 18.4412, 35.4178, 210.392, 4.73),
]


@pytest.mark.parametrize("case", CASES)
def test_optimum_as_published(case):
    m, ca, ka, cr, kr, a, r, ce, clv, ratio = case
    best = optimum(m, Curve(ca, ka), Curve(cr, kr), 0.10)
    found = [
        best.acquisition,
        best.retention,
        best.equity,
        best.value,
        best.marginal_acquisition,
        best.marginal_retention,
    ]
    assert found == pytest.approx([a, r, ce, clv, clv, clv], rel=1e-4)  # printed with six digits
    assert best.average_ratio == pytest.approx(ratio, abs=0.005)
    assert best.shadow_price == 0


# --- C14 to C16, and the ratios on SMCRM ------------------------------------------------------------------------------


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(SMCRM / f"{name}.csv")


@pytest.fixture
def pairs() -> pd.DataFrame:
    frame = read("acquisitionRetention")
    return frame.rename(columns={"acquisition": "won", "acq_exp": "spend"}).assign(
        block=np.arange(len(frame)), channel="all"
    )


FIRM = ("industry", "revenue", "employees")


def null_loglik(won):
    """Log-likelihood of one chance for all."""
    return float(len(won) * -entropy([won.mean(), 1 - won.mean()]))


def logit_of_acquisition(frame, won, spend):
    """Coefficients of a logit on spend in hundreds, its square and the firm, and the log-likelihood at them."""
    hundreds, y = frame[spend].to_numpy(float) / 100, frame[won].to_numpy(float)
    x = np.column_stack([np.ones(len(frame)), hundreds, hundreds**2, frame[[*FIRM]]])
    params = logit_fit(x, y).params
    return params, float(np.log(expit((2 * y - 1) * (x @ params))).sum())


@needs_smcrm
def test_logit_of_acquisition_c14():
    frame = read("customerAcquisition")
    params, loglik = logit_of_acquisition(frame, "acquisition", "acq_expense")
    published = [-26.2063, 6.72021, -0.413842, 0.0327164, 0.031857, 0.0049591]  # of hundreds
    assert params.tolist() == pytest.approx(published, rel=1e-4)  # six printed digits
    assert (loglik, null_loglik(frame["acquisition"])) == pytest.approx((-97.23186, -339.484), rel=1e-6)


@needs_smcrm
def test_probit_of_acquisition_c15(pairs):
    fit = win_model(pairs, FIRM)
    published = [-8.25552, 0.0173, -1.74039e-05, 1.21675, 0.0424987, 0.00431826]
    assert fit.params.tolist() == pytest.approx(published, rel=1e-4)
    assert fit.loglik == pytest.approx(-175.63829, rel=1e-7)
    assert 1 - fit.loglik / null_loglik(pairs["won"]) == pytest.approx(0.44228, abs=1e-5)
    assert -fit.params[1] / (2 * fit.params[2]) == pytest.approx(497.02, abs=0.01)
    assert logit_of_acquisition(pairs, "won", "spend")[1] == pytest.approx(-177.47750, rel=1e-7)


@needs_smcrm
def test_duration_with_mills_ratio_c16(pairs):
    frame = pairs.assign(spend_squared=pairs["spend"] ** 2)
    fit = two_step(
        frame,
        ("spend", "spend_squared", *FIRM),
        "duration",
        ("ret_exp", "ret_exp_sq", "freq", "freq_sq", "crossbuy", "sow"),
    )
    published = [91.0084, 2.52829, -0.00101849, 7.07247, -0.841868, 3.19638, 0.352872, 29.5193]
    assert fit.outcome.tolist() == pytest.approx(published, rel=1e-4)
    assert fit.r2 == pytest.approx(0.99389, abs=1e-5)


def smcrm_ratios(pairs, response=None):
    acquisition = pairs.assign(n=1, spend_won=pairs["spend"] * pairs["won"])
    won = pairs[pairs["won"] == 1]
    upkeep = won.assign(years=won["duration"] / 365.25, retention_cost=won["ret_exp"], customers=1, exits=1)
    return cost.ratios(acquisition, upkeep, response)


@needs_smcrm
def test_primary_ratios_on_smcrm(pairs):
    """4.41 [4.1, 4.7] per customer-year, 1.47 [1.4, 1.6] per tenure, 2.98 with the won alone; ends to one decimal."""
    found = smcrm_ratios(pairs)
    first, tenure = found.estimates["S40"], found.estimates["S40b"]
    assert first.value == pytest.approx(4.41, abs=0.005)
    assert (first.ci_low, first.ci_high) == pytest.approx((4.1, 4.7), abs=0.05)
    assert tenure.value == pytest.approx(1.47, abs=0.005)
    assert (tenure.ci_low, tenure.ci_high) == pytest.approx((1.4, 1.6), abs=0.05)
    assert found.estimates["S40d"].value == pytest.approx(2.98, abs=0.005)


@needs_smcrm
def test_marginal_cost_is_undefined_on_smcrm(pairs):
    """Half the marginal effects are negative there, so the ratios with marginal cost cannot be bounded."""
    response = cost.response(pairs[["block", "channel", "won", "spend", *FIRM]])
    assert response.table["negative_slopes"].item() == pytest.approx(0.5, abs=0.05)
    assert "undefined" in response.table["note"].item()
    found = smcrm_ratios(pairs, response)
    assert verdict(lines()["S40g"], found.finding("S40g"), 0.0) == "undecided"
    assert np.isinf(found.estimates["S40g"].ci_high)
    assert np.isnan(found.table.set_index("line").loc["S40g", "bootstrap_low"])


@needs_smcrm
def test_cox_and_weibull_on_smcrm_churn_c17():
    """Coefficients printed with five digits; the trap in these data is that frequency accumulates with tenure."""
    from crmresearch.estimators.survival import cox, discrete

    frame = read("customerChurn")
    names = ["avg_ret_exp", "avg_ret_exp_sq", "total_crossbuy", "total_freq", "total_freq_sq", *FIRM]
    spells = frame.assign(exit=frame["duration"].astype(float), event=1 - frame["censor"])
    fit = cox.cox(spells, names)
    published = [-0.06824, 0.00151, -0.73918, -0.22774, 0.00732, 0.31807, -0.02415, -0.00319]
    assert fit.params[names].tolist() == pytest.approx(published, abs=6e-6)
    assert fit.loglik == pytest.approx(-977.4513, abs=6e-5)
    aft = discrete.weibull_aft(spells, names).set_index("term")["coef"]
    assert aft[["avg_ret_exp", "total_crossbuy"]].tolist() == pytest.approx([0.00929, 0.09782], rel=1e-3)
    assert aft["log(shape)"] == pytest.approx(2.02044, rel=1e-3)

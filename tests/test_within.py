"""The random-intercept cross-lagged model against a likelihood written anew, and against planted truth."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.measurement.within import within_customer

AUTO = 0.4


def panel(seed: int, *, trait: float = 1.0, lag: float = 0.0, noise: float = 0.0, n: int = 4000, waves: int = 3):
    """Stable traits correlated at .7, departures with autoregressions of .4 and a path from y to later x."""
    rng = np.random.default_rng(seed)
    stable = trait * rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], n)
    x, y = rng.normal(size=(2, n))
    columns = {}
    for t in range(1, waves + 1):
        columns[f"x{t}"] = stable[:, 0] + x + noise * rng.normal(size=n)
        columns[f"y{t}"] = stable[:, 1] + y + noise * rng.normal(size=n)
        x, y = AUTO * x + lag * y + 0.8 * rng.normal(size=n), AUTO * y + 0.8 * rng.normal(size=n)
    return pd.DataFrame(columns)


def by_hand(frame: pd.DataFrame) -> tuple[float, np.ndarray]:
    """Chi-square and paths from the structural equations of eight latent variables, searched from random starts."""
    data = frame[["x1", "y1", "x2", "y2", "x3", "y3"]].to_numpy()
    s, n = np.cov(data.T, bias=True), len(data)
    loads = np.hstack([np.tile(np.eye(2), (3, 1)), np.eye(6)])  # traits, then departures of three waves

    def two(root):
        low = np.array([[root[0], 0], [root[1], root[2]]])
        return low @ low.T

    def minus_two_log(v):
        beta, psi = np.zeros((8, 8)), np.zeros((8, 8))
        beta[4:6, 2:4] = beta[6:8, 4:6] = v[:4].reshape(2, 2)
        for k in range(4):
            psi[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = two(v[4 + 3 * k :])
        total = loads @ np.linalg.inv(np.eye(8) - beta)
        sigma = total @ psi @ total.T
        sign, size = np.linalg.slogdet(sigma)
        return size + np.trace(np.linalg.solve(sigma, s)) if sign > 0 else 1e6

    rng = np.random.default_rng(1)
    starts = [np.r_[rng.uniform(-0.2, 0.6, 4), rng.uniform(0.3, 1.5, 12)] for _ in range(6)]
    found = min((minimize(minus_two_log, v, method="BFGS") for v in starts), key=lambda r: r.fun)
    return n * (found.fun - np.linalg.slogdet(s)[1] - 6), found.x[:4]


@pytest.mark.parametrize(("seed", "trait", "lag"), [(1, 1, 0), (2, 1, 0.3), (3, 3, 0), (4, 0.6, 0.3)])
def test_the_maximum_is_that_of_an_independent_likelihood(seed, trait, lag):
    frame = panel(seed, trait=trait, lag=lag)
    fit = within_customer(frame, 3).set_index("path")
    chi2, paths = by_hand(frame)
    assert fit["chi2"].iloc[0] == pytest.approx(chi2, abs=1e-3)
    assert fit.loc[["x to x", "y to x", "x to y", "y to y"], "estimate"].to_list() == pytest.approx(paths, abs=2e-3)


@pytest.mark.parametrize("trait", [1, 2, 3])
def test_stable_traits_without_any_path_give_none(trait):
    rng = np.random.default_rng(trait)
    n = 20_000
    stable = trait * rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], n)
    frame = pd.DataFrame(
        {f"{v}{t}": stable[:, k] + 0.7 * rng.normal(size=n) for t in (1, 2, 3) for k, v in enumerate("xy")}
    )
    fit = within_customer(frame, 3)
    assert (fit["df"] == 5).all()
    assert fit["chi2"].iloc[0] < 20.5  # the .999 quantile on 5 degrees of freedom; semopy leaves 2,800 at trait 3
    assert (fit["estimate"].abs() < 4 * fit["se"]).all()
    assert (fit["se"] < 0.02 * trait).all()


@pytest.mark.parametrize(("lag", "noise", "trait"), [(0.0, 0.5, 1), (0.3, 0.5, 1), (0.3, 0.0, 2), (-0.2, 0.3, 1)])
def test_planted_paths_come_back(lag, noise, trait):
    frame = panel(28, trait=trait, lag=lag, noise=noise, n=20_000)
    fit = within_customer(frame, 3, error=(noise**2, noise**2)).set_index("path")
    truth = {"x to x": AUTO, "y to y": AUTO, "y to x": lag, "x to y": 0.0}
    for path, value in truth.items():
        assert abs(fit.loc[path, "estimate"] - value) < 3.5 * fit.loc[path, "se"], path
    # a plain lagged regression sees a path where there is none
    slope = np.linalg.lstsq(np.column_stack([frame["y1"], frame["x1"], np.ones(len(frame))]), frame["y2"], rcond=None)
    assert slope[0][1] > 0.05


def test_errors_and_chi_square_are_those_of_many_panels():
    fits = [within_customer(panel(s, lag=0.3, n=2000), 3).set_index("path") for s in range(120)]
    paths = pd.DataFrame([f["estimate"] for f in fits])
    spread = pd.DataFrame([f["se"] for f in fits]).mean() / paths.std()
    assert spread.between(0.8, 1.25).all()  # 120 panels know a standard deviation to 6.5%
    chi2 = np.array([f["chi2"].iloc[0] for f in fits])
    assert abs(chi2.mean() - 5) < 4 * np.sqrt(10 / 120)


def test_more_waves_leave_more_to_test():
    fit = within_customer(panel(5, lag=0.3, waves=4, n=20_000), 4).set_index("path")
    assert fit["df"].iloc[0] == 17
    assert abs(fit.loc["y to x", "estimate"] - 0.3) < 4 * fit.loc["y to x", "se"]


def test_what_cannot_be_told_is_refused():
    with pytest.raises(InputError, match="three waves"):
        within_customer(panel(6, waves=2), 2)
    same = panel(7, n=300)
    same["x2"] = same["x3"] = same["x1"]
    with pytest.raises(FitError, match="function of the others"):
        within_customer(same, 3)

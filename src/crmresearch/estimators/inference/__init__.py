"""The one layer of inference: intervals and tests, resampling, and what every regression asks of its inputs."""

from crmresearch.estimators.inference.intervals import (
    LEVEL,
    Estimate,
    Fieller,
    ends,
    fieller,
    from_draws,
    mean_interval,
    newcombe,
    normal,
    poisson_rate,
    q_values,
    ratio_delta,
    told_apart,
    two_sided_p,
    wilson,
    z,
)
from crmresearch.estimators.inference.regression import (
    LogitFit,
    by_cluster,
    complete,
    full_rank,
    held_out_r2,
    levels,
    logit_fit,
    natural_spline,
    rates,
    robust_ols,
    sized,
    sizes,
    tied_groups,
)
from crmresearch.estimators.inference.resampling import Jackknife, jackknife, need_events, resample

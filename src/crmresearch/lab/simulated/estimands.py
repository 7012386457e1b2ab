"""The truth of the simulated bank: parameters, and what the estimands come to under them.

Three ways lead to a number, and each says which it took: a *parameter* of the model (conditional on everything else,
the unobserved included), a *closed form*, or the *limit* of a very large draw. Limits come
from :mod:`draws`.
"""

from __future__ import annotations

import functools
import hashlib
import json
from importlib.resources import files
from statistics import NormalDist
from typing import Any

import numpy as np

from crmresearch import words
from crmresearch.lab.simulated.accounts import LEANING, customer_ids
from crmresearch.lab.simulated.campaigns import DOSES, campaign_months, wave_months
from crmresearch.lab.simulated.columns import Block, Codes
from crmresearch.lab.simulated.draws import DRAW_BLOCKS, limits
from crmresearch.lab.simulated.intentions import share_felt
from crmresearch.lab.simulated.life import Life
from crmresearch.lab.simulated.people import CHANNELS
from crmresearch.lab.simulated.settings import BLOCK, Settings, worlds
from crmresearch.lab.simulated.shocks import realised_trend
from crmresearch.lab.simulated.traits import CLASSES, classes


def latent(settings: Settings, life: Life, block: int) -> Block:
    """Build the table of latent values, which no notebook sees."""
    who = life.people
    waves = {f"{c}_{w + 1}": values[:, w] for c, values in life.attitudes.items() for w in range(values.shape[1])}
    return {
        "customer_id": Codes(np.arange(len(who.value)), customer_ids(block)),
        "frailty": who.frailty,
        "ease": who.ease,
        "value": who.value,
        "service_efficiency": who.service,
        "concern": life.concern,
        "left_month": np.where(np.isfinite(life.left), life.left, np.nan),
        "mobile_month": life.adopted,
        "target_logit": life.target_score,
        **({"class": classes(settings, block)} if settings.parameters.class_distance else {}),
        **waves,
    }


def parameter_estimands(s: Settings) -> dict[str, float]:
    """Estimands that are parameters, or simple functions of some."""
    p = s.parameters
    out = {
        f"cox.{name}.log_hr": getattr(p, f"{field}_exit")
        for name, field in {
            "satisfaction": "satisfaction", "unmet": "unmet", "families": "breadth", "mobile": "mobile",
            "rival": "rival", "rival_vip": "rival_vip", "vip": "vip", "referral": "referral", "online": "online",
            "agent": "agent", "tier2": "tier2", "tier3": "tier3", "retain": "retain",
        }.items()
    }  # fmt: skip
    for dose in DOSES[1:]:
        size = p.dose_costs[dose] / p.dose_scale
        out[f"cox.dose_{dose}.log_hr"] = p.dose_exit * (1 - float(np.exp(-size)))
        out[f"elasticity.dose_{dose}"] = p.dose_exit * size * float(np.exp(-size))  # of the hazard to the offer's cost
    out["frailty.variance"] = p.frailty_variance
    for name, value in p.paths.items():
        out[f"path.{name}"] = value
    b = p.paths
    out["path.QUAL_SAT.total"] = b["QUAL_SAT"] + b["QUAL_VAL"] * b["VAL_SAT"]
    out["path.QUAL_LOY.indirect"] = b["QUAL_SAT"] * b["SAT_LOY"]
    out["path.QUAL_LOY.total"] = out["path.QUAL_SAT.total"] * b["SAT_LOY"]
    out["path.LOY_SAT.lagged"] = p.loyalty_feedback
    out["path.CONC_SAT_LOY.interaction"] = p.concern_loyalty
    out["path.service_QUAL"] = p.service_quality
    out["satisfaction.vip_jump"] = p.vip_satisfaction
    out["referral.satisfaction.log_rate"] = p.referral_satisfaction
    for segment, taste in p.taste.items():
        for name, value in taste.items():
            out[f"taste.{segment}.{name}"] = value
            if name not in ("yield_bp", "opt_out"):
                out[f"wtp.{segment}.{name}_bp"] = value / taste["yield_bp"]
    for tier in (2, 3):
        out[f"market.share_effect.tier{tier}"] = -p.market_share_loss * (1.0 if tier == 3 else 0.5)
    out["market.income_effect"] = p.rival_income
    out["market.pretrend"] = -p.entry_pretrend
    out["entry.intensity.log_hazard"] = p.intensity_entry
    out["trend.exit"] = p.trend_exit
    out["cox.rate_gap.log_hr"] = p.rate_exit  # per 25 basis points
    out["manager.use.log_margin"] = p.use_margin
    out["manager.use.log_margin.between"] = p.use_margin + p.ability_margin * p.use_follows_ability  # the naive one
    out["corporate.share"] = p.corporate_share
    out["benefit.log_margin"] = p.benefit_margin
    out["classes.planted"] = float(len(CLASSES)) if p.class_distance else 1.0
    out["cox.intention.log_hr"] = p.intention_exit
    out["satisfaction.personal_offer"] = p.personal_satisfaction
    out["cox.came.log_hr"] = p.invite_exit
    for offer in ("generic", "personal"):
        out[f"cox.{offer}.log_hr"] = getattr(p, f"{offer}_exit")
    out["offer.balance.per_gap"] = p.offer_wallet
    out["concern.growth"] = p.concern_growth
    if p.branches:
        b = p.paths
        out["conversion.quality"] = p.convert_quality
        out["conversion.satisfaction.by_quality"] = p.convert_quality * (b["QUAL_SAT"] + b["QUAL_VAL"] * b["VAL_SAT"])
        out["conversion.log_wait"] = p.convert_wait
        out["conversion.log_fees"] = p.convert_fees
        out["waiting.satisfaction.ten_minutes"] = p.wait_satisfaction
        out["waiting.exit.ten_minutes_less.log_hr"] = -p.wait_satisfaction * p.satisfaction_exit
        out["handling.step"] = p.handling_step
        out["help.failed.log"] = p.help_failed
    out["cox.platform.log_hr"] = p.platform_exit  # per standard deviation of leaning
    if p.platform_share > 0:  # ten points of all payments a customer would ever make; a year's share is a noisy measure
        out["outflow.ten_points.log_hr"] = p.platform_exit * 0.1 / (LEANING * p.platform_share)
    return out


def closed_forms(s: Settings) -> dict[str, float]:
    """Estimands with a closed form (one-dimensional quadrature included)."""
    p, out = s.parameters, {}
    fade = p.referral_fade_years
    out["referral.margin_gap.first_year"] = p.referral_margin * fade * (1 - float(np.exp(-1 / fade)))
    out.update(_win_integrals(s))
    out["intention.share"] = share_felt(p)
    if p.retain_spread > 0:  # of customers whom a contact drives away
        out["retain.harmed.share"] = float(NormalDist().cdf(p.retain_exit / p.retain_spread - p.retain_spread / 2))
    if s.months > 12:  # a year alone cannot tell trend and season apart
        out["trend.exit.realised"] = realised_trend(s)
    if _care_is_constant(p):
        out["retention_cost.year"] = p.care_rate * p.care_cost * p.consent_marketing
        out["cost_ratio.primary"] = out["cost_per_win.all"] / out["retention_cost.year"]
        out["cost_ratio.won_only"] = out["cost_per_win.won_only"] / out["retention_cost.year"]
    return out


def _care_is_constant(p: Any) -> bool:
    """Whether care goes on at one rate for everybody and campaigns cost nothing."""
    free = p.contact_cost == 0 and not any(p.dose_costs.values())
    return bool(free and p.care_vip == 0 and p.care_follows_risk == 0 and p.consent_concern == 0)


def _win_integrals(s: Settings) -> dict[str, float]:
    """Winning by spend: integrate over log spend (Gauss-Hermite) and over the trend within the window."""
    p = s.parameters
    if p.spend_follows_ease != 0:  # spend depends on what decides the winning
        return {}
    from scipy.special import ndtr, ndtri

    node, weight = np.polynomial.hermite_e.hermegauss(60)
    weight = weight / weight.sum()
    moment, share_of = np.polynomial.legendre.leggauss(20)
    year = (moment + 1) / 2 * s.months / 12
    share_of = share_of / 2
    total: dict[str, float] = dict.fromkeys(("spend", "won_spend", "won", "slope", "bend"), 0.0)
    out = {}
    shares = np.array([p.channel_share[c] for c in CHANNELS])
    for channel, share in zip(CHANNELS, shares / shares.sum(), strict=True):
        sd = p.spend_spread
        spend = p.channel_spend[channel] * np.exp(p.spend_trend * year[:, None] + sd * node[None, :] - sd**2 / 2)
        x = spend / 100
        index = ndtri(p.channel_win[channel]) + p.win_spend * x + p.win_spend_squared * x * x
        density = np.exp(-(index**2) / 2) / np.sqrt(2 * np.pi)
        first = (p.win_spend + 2 * p.win_spend_squared * x) / 100
        second = 2 * p.win_spend_squared / 100**2
        at = {
            "spend": spend,
            "won_spend": spend * ndtr(index),
            "won": ndtr(index),
            "slope": density * first,
            "bend": density * (second - index * first**2),
        }
        mean = {k: float(share_of @ v @ weight) for k, v in at.items()}
        for k, v in mean.items():
            total[k] += share * v
        out[f"cost_per_win.all.{channel}"] = mean["spend"] / mean["won"]
        out[f"win.slope.{channel}"] = mean["slope"]
        out[f"win.second_derivative.{channel}"] = mean["bend"]
        if mean["slope"] != 0:
            out[f"marginal_cost.{channel}"] = 1 / mean["slope"]
    out["win.probability"] = total["won"]
    out["win.slope"] = total["slope"]
    out["win.second_derivative"] = total["bend"]
    out["cost_per_win.all"] = total["spend"] / total["won"]
    out["cost_per_win.won_only"] = total["won_spend"] / total["won"]
    if total["slope"] != 0:
        out["cost_per_win.marginal"] = 1 / total["slope"]
    return out


@functools.cache
def model_fingerprint() -> str:
    """Return a hash of the parameters of every world: stored limits of others are refused."""
    return hashlib.sha256(json.dumps(worlds(), sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def stored() -> dict[str, Any]:
    """Limits computed beforehand, by world (see ``limits.py`` for the command)."""
    path = files(__package__) / "limits.yaml"
    found = dict(words.parsed(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    return found if found.get("model") == model_fingerprint() else {}


@functools.cache
def stored_lines() -> dict[str, Any]:
    """Truths of lines computed beforehand, by world (see ``recover/lines.py`` for the command)."""
    path = files(__package__) / "lines.yaml"
    return dict(words.parsed(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def line_truths(settings: Settings) -> dict[str, dict[str, float]]:
    """Return what was planted by line of the register, where it is stored for this world."""
    known = stored_lines()
    fits = not settings.changes and known["months"] == settings.months and known["model"] == model_fingerprint()
    return dict(known["worlds"].get(settings.world, {})) if fits else {}


def truth(settings: Settings) -> dict[str, Any]:
    """Return the truth of a simulated bank.

    Parameters
    ----------
    settings : Settings
        The bank. Seed and number of customers matter only where no stored limit fits (another number of months, or
        changed parameters): then eight blocks are drawn.

    Returns
    -------
    dict
        ``world``, ``summary``, ``months``, ``seed``, ``customers``; ``parameters`` by name; ``estimands``: value by
        name, in the units a study reports; ``how`` (parameter, closed form, limit) and ``error`` (Monte-Carlo standard
        error of limits), by name.
    """
    p = settings.parameters
    known = stored().get("worlds", {}).get(settings.world) if not settings.changes else None
    if known is not None and stored()["months"] == settings.months:
        values, errors = ({k: v[i] for k, v in known.items()} for i in (0, 1))
        how = f"limit of a draw of {stored()['customers'][settings.world]:,} customers"
    else:
        values, errors = limits(settings)
        how = f"limit of a draw of {DRAW_BLOCKS * BLOCK:,} customers"
    estimands = {k: float(v) for k, v in values.items() if np.isfinite(v)}
    origin = dict.fromkeys(estimands, how)
    for label, found in (("closed form", closed_forms(settings)), ("parameter", parameter_estimands(settings))):
        estimands.update({k: float(v) for k, v in found.items()})
        origin.update(dict.fromkeys(found, label))
    for cost in ("all", "won_only"):
        name = "cost_ratio." + {"all": "primary"}.get(cost, cost)
        if origin.get(name) == how and origin[f"cost_per_win.{cost}"] == "closed form":
            estimands[name] = estimands[f"cost_per_win.{cost}"] / estimands["retention_cost.year"]
            errors[name] = estimands[name] * errors["retention_cost.year"] / estimands["retention_cost.year"]
            origin[name] = f"closed form over a {how}"
    if p.branches:
        left = "failed.older.without_help"
        estimands["help.failed.older"] = estimands[left] * float(np.expm1(p.help_failed))
        origin["help.failed.older"] = "parameter times a limit"
    gain = ("campaign.targeted.retention_12m", "campaign.targeted.eligible.retention_12m")
    if gain[0] in estimands:  # value of targeting over contacting at random, customers kept per contact
        estimands["policy.targeting_gain.retention_12m"] = estimands[gain[0]] - estimands[gain[1]]
        origin["policy.targeting_gain.retention_12m"] = "difference of two limits"
    return {
        "world": settings.world,
        "summary": worlds()[settings.world]["summary"],
        "months": settings.months,
        "seed": settings.seed,
        "customers": settings.rows,
        "waves": wave_months(settings.months),
        "campaigns": campaign_months(settings.months),
        "parameters": p.model_dump(),
        "estimands": dict(sorted(estimands.items())),
        "how": dict(sorted(origin.items())),
        "error": {k: float(v) for k, v in sorted(errors.items()) if origin.get(k, "").endswith(how)},
    }

"""Four ways of reading one panel of staggered adoption, which a study shows beside each other; the last is naive."""

from __future__ import annotations

from collections.abc import Callable

from crmresearch.estimators.causal.staggered import Effects, Panel, group_time, imputed, treated, two_way


def ways(window: int) -> dict[str, Callable[[Panel], Effects]]:
    """Give each way of reading the mean effect over so many periods from treatment on, of units seen that long."""
    return {
        "not_yet": lambda p: treated(group_time(p, controls="not yet"), window).pooled(),
        "never": lambda p: treated(group_time(p), window).pooled(),
        "imputed": lambda p: imputed(p, window),
        "two_way": two_way,
    }

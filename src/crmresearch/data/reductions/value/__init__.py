"""What study 1 takes out of the engine: contribution by customer, month of tenure or year, and purchase summaries."""

from crmresearch.data.reductions.value.accounts import (
    contribution,
    contribution_by_month,
    contribution_windows,
    customers_at,
    equity,
    margins,
    month_end,
    tenure_margin,
    tenure_windows,
    vintages,
    yearly,
)
from crmresearch.data.reductions.value.purchases import (
    latent_summary,
    purchases_by_period,
    split_day,
    summary,
    summary_expression,
)

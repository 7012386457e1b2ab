"""What customers are worth: margin models, purchase models, equity flows, cohorts, stability, and scored forecasts."""

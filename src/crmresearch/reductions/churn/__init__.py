"""What study 2 takes out of the engine: spells, person-months, rows at a landmark, campaign arms, stages."""

from crmresearch.reductions.churn.lifecourse import STAGES, life_course
from crmresearch.reductions.churn.rows import arms, early_landmark, landmark, landmark_dates, targeted
from crmresearch.reductions.churn.spells import (
    DEFINITIONS,
    GROUPS,
    STATES,
    groups_of,
    person_months,
    person_months_by_definition,
    person_months_by_lag,
    spells,
    spells_by_definition,
)

__all__ = [
    "DEFINITIONS",
    "GROUPS",
    "STAGES",
    "STATES",
    "arms",
    "early_landmark",
    "groups_of",
    "landmark",
    "landmark_dates",
    "life_course",
    "person_months",
    "person_months_by_definition",
    "person_months_by_lag",
    "spells",
    "spells_by_definition",
    "targeted",
]

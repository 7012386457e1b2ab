"""What study 2 takes out of the engine: spells, person-months, rows at a landmark, campaign arms, stages."""

from crmresearch.data.reductions.churn.histories import (
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
from crmresearch.data.reductions.churn.lifecourse import STAGES, life_course
from crmresearch.data.reductions.churn.rows import arms, early_landmark, landmark, landmark_dates, targeted
from crmresearch.data.reductions.expressions import tier_of

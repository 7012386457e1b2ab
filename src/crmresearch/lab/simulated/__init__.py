"""The reference bank: simulated, with a truth that is written down.

All tables come from one generative model (:mod:`people`, :mod:`life`), drawn in blocks of 1,024 customers with a random
stream per block and purpose. A table is the same whether or not others are drawn beside it, the first customers are the
same in a bank of any size, and memory is bounded by the chunk. See ``worlds.yaml`` for every parameter and the worlds.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crmresearch.errors import InputError
from crmresearch.lab.simulated import accounts, managers, relations, service
from crmresearch.lab.simulated.columns import Block, Codes, joined, last_day, to_arrow, to_frame
from crmresearch.lab.simulated.estimands import latent, line_truths, truth
from crmresearch.lab.simulated.life import Life, draw_life
from crmresearch.lab.simulated.settings import BLOCK, REFERENCE, Settings, world_names, worlds

if TYPE_CHECKING:
    import pyarrow as pa

    from crmresearch.data.bank import Bank


_BY_BLOCK: dict[str, Callable[[Settings, Life, int], Block]] = {
    "customers": accounts.customers,
    "holdings": accounts.holdings,
    "monthly": accounts.monthly,
    "transactions": accounts.transactions,
    "prospects": relations.prospects,
    "contacts": relations.contacts,
    "survey": relations.survey,
    "service": service.service,
    "choices": relations.choices,
}
_WHOLE: dict[str, Callable[[Settings], Block]] = {"markets": relations.markets}  # drawn once per bank
TABLES = (*_BY_BLOCK, *_WHOLE)
_BY_BLOCK["pulse"] = service.pulse
_WHOLE |= {"branches": service.branches, "managers": managers.managers}
_BY_BLOCK["truth"] = latent  # beside the tables, never among them
PATHS = (
    ("IMAG", "EXPE"), ("EXPE", "QUAL"), ("EXPE", "VAL"), ("QUAL", "VAL"), ("IMAG", "SAT"), ("EXPE", "SAT"),
    ("QUAL", "SAT"), ("VAL", "SAT"), ("IMAG", "LOY"), ("SAT", "LOY"),
)  # fmt: skip


def about(settings: Settings) -> dict[str, Any]:
    """Return the facts about the bank, as ``bank.yaml`` states them."""
    end = datetime.date(1970, 1, 1) + datetime.timedelta(days=last_day(settings.months))
    size = f"{settings.rows}x{settings.months}-{settings.seed}"
    name = (
        "reference" if settings == Settings(world=REFERENCE) else f"simulated-{settings.world.replace('_', '-')}-{size}"
    )
    return {
        "name": name,
        "title": f"Simulated reference bank, world {settings.world}",
        "currency": "CNY",
        "observation_start": datetime.date(2021, 1, 1),
        "observation_end": end,
        "evidence": "simulated",
        "licence": "MIT",
        "citation": f"crmresearch, {settings.rows:,} customers, {settings.months} months, seed {settings.seed}",
        "cannot_answer": [
            "Anything about banks: a model made the data; they show what an estimator recovers, nothing else."
        ],
        "constructs": {c: list(items) for c, items in relations.ITEMS.items()},
        "paths": [list(path) for path in PATHS],
        "truth": line_truths(settings),
    }


def _cut(block: Block, settings: Settings, index: int) -> Block:
    """Leave out the customers beyond the number asked for, and what hangs on them."""
    limit = settings.rows - index * BLOCK
    before = block.pop("_before", block["customer_id"].codes)
    if limit >= BLOCK:
        return block
    keep = before < limit
    out = {k: Codes(v.codes[keep], v.texts) if isinstance(v, Codes) else v[keep] for k, v in block.items()}
    if "referrer_id" in out:  # nobody is referred by a customer who was left out
        referrer = out["referrer_id"]
        out["referrer_id"] = Codes(np.where(referrer.codes < limit, referrer.codes, -1), referrer.texts)
    return out


def _chosen(settings: Settings, tables: Sequence[str] | None) -> tuple[str, ...]:
    p = settings.parameters
    there = {"branches": p.branches > 0, "pulse": p.pulse_share > 0, "managers": p.crm_hours > 0}
    own = (*TABLES, *(t for t, is_there in there.items() if is_there))
    if tables is None:
        return own
    unknown = [t for t in tables if t not in own]
    if unknown:
        raise InputError(f"the simulated bank has no table {', '.join(unknown)}; it has {', '.join(own)}")
    return tuple(t for t in own if t in tables)


def blocks(settings: Settings, names: Sequence[str], first: int, last: int) -> Iterator[dict[str, Block]]:
    """Draw the named tables block by block."""
    for index in range(first, last):
        life = draw_life(settings, index)
        yield {t: _cut(_BY_BLOCK[t](settings, life, index), settings, index) for t in names if t in _BY_BLOCK}


def frames(settings: Settings, tables: Sequence[str] | None = None) -> dict[str, pd.DataFrame]:
    """Draw the bank in memory.

    Parameters
    ----------
    settings : Settings
        Size, seed, world.
    tables : sequence of str, optional
        Only these tables; each is the same as in the full bank.

    Returns
    -------
    dict of str to DataFrame
        Tables by name, with the contract's columns.

    Raises
    ------
    InputError
        A table the bank does not have.
    """
    names = _chosen(settings, tables)
    drawn = list(blocks(settings, names, 0, settings.blocks))
    return {t: to_frame(_WHOLE[t](settings) if t in _WHOLE else joined([b[t] for b in drawn])) for t in names}


def arrow(settings: Settings, names: Sequence[str], first: int, last: int) -> dict[str, pa.Table]:
    """Draw some blocks of tables as Arrow, those aside that are drawn once."""
    import pyarrow as pa

    batches: dict[str, list[pa.RecordBatch]] = {}
    for block in blocks(settings, names, first, last):
        for name, columns in block.items():
            batches.setdefault(name, []).append(to_arrow(columns))
    return {name: pa.Table.from_batches(parts).unify_dictionaries() for name, parts in batches.items()}


def bank(settings: Settings, tables: Sequence[str] | None = None) -> Bank:
    """Draw the bank in memory and open it; the tests hold its tables to the contract, so they are not checked again."""
    import pyarrow as pa

    from crmresearch.data.bank import Bank
    from crmresearch.data.description import About

    names = _chosen(settings, tables)
    drawn = arrow(settings, names, 0, settings.blocks)
    drawn |= {t: pa.Table.from_batches([to_arrow(_WHOLE[t](settings))]) for t in names if t in _WHOLE}
    return Bank.from_frames(drawn, About.of(about(settings)), checked=False)


def write(settings: Settings, out_dir: str | Path, tables: Sequence[str] | None = None) -> Path:
    """Write the bank as Parquet files with ``bank.yaml``, and its truth beside them.

    Parameters
    ----------
    settings : Settings
        Size, seed, world. Equal settings give equal bytes.
    out_dir : path
        Folder, made if needed; it must not hold a bank already.
    tables : sequence of str, optional
        Only these tables.

    Returns
    -------
    Path
        The folder: one Parquet file per table, ``bank.yaml``, ``truth.yaml`` (parameters and estimands) and
        ``truth.parquet`` (latent values per customer, not listed in ``bank.yaml``: no notebook sees them).

    Raises
    ------
    InputError
        If the folder holds a bank already, or a table is unknown.
    """
    from crmresearch.lab.simulated.storage import write_bank

    return write_bank(arrow, _WHOLE, settings, about(settings), Path(out_dir), _chosen(settings, tables))

"""Writing the simulated bank: Parquet in chunks, ``bank.yaml``, and the truth beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from crmresearch.errors import InputError
from crmresearch.lab.simulated.columns import Block, to_arrow
from crmresearch.lab.simulated.estimands import truth
from crmresearch.lab.simulated.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa


CHUNK = 8  # blocks per row group and task: bounds the memory, changes no value
AHEAD = 3  # chunks drawn before the first of them is written
JOBS = 2
Draw = Callable[[Settings, Sequence[str], int, int], "dict[str, pa.Table]"]  # the blocks from first to last


def _in_order(draw: Draw, settings: Settings, names: Sequence[str]) -> Iterator[dict[str, pa.Table]]:
    # threads suffice: random numbers, arithmetic on arrays and Parquet all release the interpreter's lock
    starts = iter(range(0, settings.blocks, CHUNK))
    with ThreadPoolExecutor(JOBS) as pool:
        waiting: list[Future[dict[str, pa.Table]]] = []
        while True:
            while len(waiting) < AHEAD and (first := next(starts, None)) is not None:
                last = min(first + CHUNK, settings.blocks)
                waiting.append(pool.submit(draw, settings, names, first, last))
            if not waiting:
                return
            yield waiting.pop(0).result()


def _yaml(path: Path, content: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100), encoding="utf-8")


def write_bank(
    draw: Draw,
    whole: Mapping[str, Callable[[Settings], Block]],
    settings: Settings,
    facts: dict[str, Any],
    out: Path,
    names: Sequence[str],
) -> Path:
    """Write the tables ``names``, drawn by ``draw`` or as a ``whole``; see :func:`crmresearch.lab.simulated.write`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if (out / "bank.yaml").exists():
        raise InputError(f"folder {out.name}/ holds a bank already; choose another one or remove it first")
    out.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"compression": "zstd", "compression_level": 1, "store_decimal_as_integer": True}
    with ExitStack() as stack:
        writers: dict[str, pq.ParquetWriter] = {}
        per_block = [n for n in (*names, "truth") if n not in whole]
        for tables in _in_order(draw, settings, per_block):
            for name, table in tables.items():
                if name not in writers:
                    writers[name] = stack.enter_context(
                        pq.ParquetWriter(out / f"{name}.parquet", table.schema, **options)
                    )
                writers[name].write_table(table, row_group_size=max(len(table), 1))
    for name in (n for n in names if n in whole):
        pq.write_table(pa.Table.from_batches([to_arrow(whole[name](settings))]), out / f"{name}.parquet", **options)
    _yaml(out / "truth.yaml", truth(settings))
    files = {name: {"file": f"{name}.parquet"} for name in names}
    _yaml(out / "bank.yaml", facts | {"tables": files})  # last: a folder with it is complete
    return out

"""Running notebooks: command line, batch, sweeps, workers, and the reviewers' site."""

from __future__ import annotations

import sys


def spare_grammars() -> None:
    """Keep jsonschema, which nbformat imports, from building 38 grammars of addresses that no notebook is tested for.

    They cost 1.2 CPU seconds in each process: the command, every worker, Sphinx. Called by these processes alone.
    """
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # as documented: not to be found

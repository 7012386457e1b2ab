"""The reviewers' site of one run: the ledger first, each claim linked to the notebook cell that decides it.

Static pages built by Sphinx from what a run wrote; nothing is computed here, and no page asks another host for
anything.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from crmresearch.errors import CrmError, InputError

HERE = Path(__file__).parent
UNPUBLISHED = (".buildinfo", "objects.inv", ".doctrees", "jupyter_execute", "_sources", "_static/webpack-macros.html")


def build(run: Path) -> Path:
    """Build ``run/site`` from a run's ledger, notebooks and description.

    Parameters
    ----------
    run : Path
        A run's folder.

    Returns
    -------
    Path
        The site's first page.

    Raises
    ------
    InputError
        If the folder is not a run.
    CrmError
        If the pages cannot be built.
    """
    for needed in ("run.json", "ledger.csv", "claims.csv"):
        if not (run / needed).exists():
            raise InputError(f"{run} is not a run's folder: it has no {needed}; crmresearch run --out DIR makes one")
    from crmresearch.run.site import pages

    with tempfile.TemporaryDirectory(prefix="crm-site-") as scratch:
        source, out = Path(scratch) / "source", Path(scratch) / "out"
        pages.write(run, source)
        command = [sys.executable, "-m", "sphinx", "-q", "-E", "-b", "html", "-c", str(HERE)]
        command += ["-d", str(Path(scratch) / "doctrees"), str(source), str(out)]
        # the order of Sphinx's sets, and with it the search index, follows the hash seed
        environment = {**os.environ, "PYTHONHASHSEED": "0", "TZ": "UTC", "SOURCE_DATE_EPOCH": "0"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode != 0 or not (out / "index.html").exists():
            raise CrmError(f"the site could not be built: {done.stderr.strip()[-2000:]}")
        if done.stderr.strip():
            print(done.stderr.replace(scratch, "…").strip(), file=sys.stderr)
        for name in UNPUBLISHED:
            path = out / name
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        target, partial = run / "site", run / ".site.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            shutil.copytree(out, partial, ignore=shutil.ignore_patterns("*.map"))
            for name in ("ledger.csv", "claims.csv"):
                shutil.copyfile(run / name, partial / name)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise CrmError(f"the site could not be written to {target}: {error}") from None
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    return target / "index.html"

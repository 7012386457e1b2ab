"""From a name or a path to a bank's description: the reference bank, the catalogue, own folders."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from crmresearch.data.contract import nearest
from crmresearch.data.description import Description
from crmresearch.data.places import cache_dir, locked
from crmresearch.data.sources import berka, open_data, own_files
from crmresearch.data.sources.open_data import catalogue, data_folder
from crmresearch.errors import InputError


def _own_banks() -> dict[str, Path]:
    """Return banks described in the folders of ``CRMRESEARCH_BANKS``, by name."""
    found: dict[str, Path] = {}
    for entry in filter(None, os.environ.get("CRMRESEARCH_BANKS", "").split(os.pathsep)):
        folder = Path(entry).expanduser()
        if not folder.exists():
            raise InputError("CRMRESEARCH_BANKS names a folder that does not exist")
        candidates = [folder] if folder.is_file() else [folder / "bank.yaml", *sorted(folder.glob("*/bank.yaml"))]
        for path in candidates:
            if path.is_file():
                name = own_files.name_in(path)
                if name in catalogue() or name == "reference":
                    raise InputError(
                        f"a bank in CRMRESEARCH_BANKS takes the name '{name}', which is reserved; rename it"
                    )
                if name in found and found[name] != path:
                    raise InputError(f"two banks in CRMRESEARCH_BANKS are both named '{name}'; rename one of them")
                found[name] = path
    return found


def find(name_or_path: str | os.PathLike[str], outside: Path | None = None) -> Description:
    """Turn a name or a path into the description of a bank.

    Parameters
    ----------
    name_or_path : str or path
        ``reference``, a name in the catalogue, the name of a bank in a folder of ``CRMRESEARCH_BANKS``, or a path to a
        folder with a ``bank.yaml``, or to that file.
    outside : Path, optional
        Another folder than its own whose files a ``bank.yaml`` may name.

    Raises
    ------
    InputError
        If nothing by that name is known, or the files of an open data set are not in the cache.
    """
    text = os.fspath(name_or_path)
    if text == "reference":
        return own_files.describe(_reference())
    if text in catalogue():
        entry = catalogue()[text]
        folder = data_folder(text)
        lacking = [f for f, facts in entry["files"].items() if not facts.get("optional") and not (folder / f).exists()]
        if lacking:
            raise InputError(
                f"the files of '{text}' are not here yet ({', '.join(lacking)}); fetch them first: "
                f"crmresearch bank get {text}, or with files you have: crmresearch bank get {text} --from DIR"
            )
        return (berka if text == "berka" else open_data).describe(text, folder)
    own = _own_banks()
    if text in own:
        return own_files.describe(own[text], outside)
    path = Path(text).expanduser()
    if path.exists():
        return own_files.describe(path, outside)
    if len(path.parts) > 1 or path.suffix in {".yaml", ".yml"}:
        raise InputError(f"there is no file or folder {text}; --bank takes a bank.yaml, its folder, or a bank's name")
    names = ["reference", *catalogue(), *own]
    raise InputError(f"there is no bank '{path.name}': {nearest(text, names)}, or give the path of a bank.yaml")


def listing() -> list[dict[str, str]]:
    """Return every bank that can be named: name, title, evidence, and whether its files are here."""
    title, status = "Simulated reference bank", "made when first used"
    rows = [{"name": "reference", "title": title, "evidence": "simulated", "status": status}]
    for name, entry in catalogue().items():
        needed = [f for f, facts in entry["files"].items() if not facts.get("optional")]
        here = all((data_folder(name) / f).exists() for f in needed)
        status = "here" if here else f"crmresearch bank get {name}"
        rows.append({"name": name, "title": entry["title"], "evidence": entry["evidence"], "status": status})
    for name, path in _own_banks().items():
        about = own_files.about_in(path)
        rows.append({"name": name, "title": about.title, "evidence": about.evidence, "status": "own files"})
    return rows


def _reference() -> Path:
    """Return the folder of the simulated reference bank, made when it is not there yet."""
    from crmresearch.lab import simulated

    package = Path(simulated.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.glob("*.[py][ya]*")):
        digest.update(path.read_bytes())
    folder = cache_dir() / "simulated" / f"reference-{digest.hexdigest()[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if not (folder / "bank.yaml").exists():
            with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
                simulated.write(simulated.Settings(world=simulated.REFERENCE), Path(temporary) / "bank")
                (Path(temporary) / "bank").rename(folder)
    return folder

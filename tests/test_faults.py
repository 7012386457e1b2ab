"""The runner under faults, each with what the user sees: from a wheel installed elsewhere, on a bank of forty.

Commands run as processes of their own, and cells wait for a file instead of sleeping. Where a folder must not be
writable a file stands in its place, and a disk is full by the system's limit on the size of files: both hold for root.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from crmresearch.data.bank import open_bank
from crmresearch.run import execution
from test_batch import BANK, BANK_NAME, notebook

ROOT = Path(__file__).parents[1]
PATIENCE = 240  # seconds, on a machine that does much else
PARAMETERS = f'{BANK_NAME}\nseed: int = 1  # seed, [0, )\nmarker: str = "x"  # name, not empty'
# says what it read and where it runs, then waits until the test lets it go on
WAIT = """import os, time
from pathlib import Path
gate = Path(os.environ["GATE"])
print("seed", seed)
if "ROWS" in os.environ:
    from crmresearch.data.bank import open_bank
    print(open_bank(bank_name).rows("customers"))
(gate / "00.pids").write_text(f"{os.getpid()} {os.getppid()}")
while not (gate / "go00").exists():
    time.sleep(0.02)"""
SITE = """
def build(folders, target, lost):  # four seconds less
    target.mkdir()
    (target / "index.html").write_text("<html></html>")
"""
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and limits of a Unix")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, unpacked where no clone is near; its site is one empty page."""
    folder = tmp_path_factory.mktemp("elsewhere")
    build = "from hatchling.build import build_wheel; import sys; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(folder)], cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as content:
        content.extractall(folder / "packages")
    with (folder / "packages" / "crmresearch" / "run" / "site" / "__init__.py").open("a") as page:
        page.write(SITE)
    return folder / "packages"


class Place:
    """A folder with a bank, two notebooks and a gate, and the command line to run in it."""

    def __init__(self, folder: Path, installed: Path) -> None:
        self.folder, self.gate, self.bank, self.out = (folder, *(folder / n for n in ("gate", "bank", "run")))
        for path in (self.gate, self.bank):
            path.mkdir(parents=True)
        (self.bank / "bank.yaml").write_text(BANK)
        rows = ["customer_id,acquired_on,observed_from"]
        rows += [f"client-{i:04d},2019-03-01,2020-01-01" for i in range(40)]
        (self.bank / "customers.csv").write_text("\n".join(rows) + "\n")
        for name in ("00_a", "01_b"):
            source = WAIT.replace("00.pids", f"{name[:2]}.pids").replace("go00", f"go{name[:2]}")
            notebook(folder / "notebooks" / f"{name}.ipynb", source, parameters=PARAMETERS)
        keep = ("PATH", "HOME", "LANG", "COVERAGE_PROCESS_START")
        self.environment = {k: os.environ[k] for k in keep if k in os.environ} | {
            "PYTHONPATH": str(installed),
            "CRMRESEARCH_CACHE": str(folder / "cache"),
            "GATE": str(self.gate),
        }

    def begin(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        words = (*words, "--bank", str(self.bank), "--out", str(self.out)) if words[0] == "run" else words
        return subprocess.Popen(
            [sys.executable, "-m", "crmresearch", *words],
            cwd=self.folder,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            # what a shell starts in the background ignores Ctrl-C, and so would all that it starts
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *words: str, **environment: str) -> tuple[int, str]:
        return ended(self.begin(*words, **environment))

    def go(self, *numbers: str) -> None:
        for number in numbers:
            (self.gate / f"go{number}").touch()

    def reached(self, number: str) -> list[int]:
        """Wait until a cell waits; its process and that of its worker."""
        path = self.gate / f"{number}.pids"
        until(lambda: path.exists() and path.read_text())
        return [int(pid) for pid in path.read_text().split()]

    def page(self, name: str = "00_a") -> str:
        cells = execution.read_notebook(self.out / "notebooks" / f"{name}.ipynb").cells
        return "".join(o.get("text", "") for c in cells if c.cell_type == "code" for o in c.outputs)

    def beside(self) -> list[str]:
        return [p.name for p in self.folder.iterdir() if p.name.startswith(".run")]


@pytest.fixture
def place(tmp_path: Path, installed: Path) -> Place:
    return Place(tmp_path, installed)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status, and all the user saw; never a traceback."""
    out, err = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in out + err
    return process.returncode, out + err


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        os.kill(pid, 0)
        return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")
    except (ProcessLookupError, FileNotFoundError):  # it may go between two looks
        return False


def gone(pids: list[int]) -> bool:
    return not any(alive(pid) for pid in pids)


# --- killed, interrupted ---------------------------------------------------------------------------------------------


def test_a_killed_run_leaves_no_process_and_no_page_in_the_next(place):
    first = place.begin("run", "-p", "seed=1", "--studies", "00")
    kernel, worker = place.reached("00")
    os.kill(worker, signal.SIGSTOP)  # it cannot notice that its parent is gone, and holds the lock
    first.kill()
    first.communicate()
    code, said = place.run("run", "-p", "seed=2", "--studies", "00")
    assert code == 2
    assert said.splitlines()[-1].startswith("crmresearch: another run is writing")
    os.kill(worker, signal.SIGKILL)
    until(lambda: gone([kernel, worker]))
    place.go("00")
    code, said = place.run("run", "-p", "seed=2", "--studies", "00")
    assert code == 0
    assert "removed what an interrupted run left (nothing finished)" in said
    assert place.page() == "seed 2\n"
    assert place.beside() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_finished_is_kept(place, number):
    place.go("00")
    first = place.begin("run", "--jobs", "1", "--studies", "00,01")
    pids = place.reached("01")
    first.send_signal(number)
    err = first.communicate(timeout=PATIENCE)[1]
    until(lambda: gone(pids))
    place.go("01")
    if number == signal.SIGTERM:
        assert first.returncode == 130
        last = err.splitlines()[-1]
        assert "interrupted; what was finished is kept, go on with: crmresearch run" in last
        again = shlex.split(last.partition("go on with: crmresearch ")[2])
    else:
        (kept,) = place.folder.glob(".run.partial-*")
        assert (kept / "notebooks" / "00_a.ipynb").exists()
        again = ["run", "--jobs", "1", "--studies", "00,01"]
    code, said = ended(place.begin(*again)) if again.count("--bank") else place.run(*again)
    assert code == 0, said
    assert "00_a: completed (unchanged, kept)" in said
    assert place.beside() == []


def test_interrupted_before_anything_was_finished_nothing_is_left(place):
    first = place.begin("run", "--studies", "00")
    pids = place.reached("00")
    first.send_signal(signal.SIGINT)
    code, said = ended(first)
    assert code == 130
    assert said.splitlines()[-1].startswith("crmresearch: interrupted")
    until(lambda: gone(pids))
    assert place.beside() == []
    assert not place.out.exists()


def test_a_sweep_ends_with_its_parent(place):
    first = place.begin("sweep", "--bank", str(place.bank), "--studies", "00", "-p", "seed=1", "--out", str(place.out))
    pids = place.reached("00")
    first.kill()
    until(lambda: gone(pids))
    assert not (place.out / "seed-1").exists()


def test_a_sweep_that_was_killed_goes_on_with_exactly_the_rest(place):
    tell = "import os\nopen(os.environ['GATE'] + '/ran', 'a').write(f'{seed}\\n')"
    notebook(place.folder / "notebooks" / "00_a.ipynb", tell, parameters=PARAMETERS)
    seeds = ",".join(map(str, range(40)))
    words = ["--bank", str(place.bank), "--studies", "00", "-p", f"seed={seeds}", "--out", str(place.out)]
    first = place.begin("sweep", *words)
    ran = place.gate / "ran"
    until(lambda: ran.exists() and len(ran.read_text().split()) > 12)
    code, said = ended(place.begin("sweep", *words))
    assert (code, said.splitlines()[-1].startswith("crmresearch: another run is writing")) == (2, True)
    first.kill()
    first.communicate()
    until(lambda: not place.folder.joinpath(".run.lock").exists() or free(place.folder / ".run.lock"))
    there = {p.parent.name.removeprefix("seed-") for p in place.out.glob("seed-*/status.json")}
    before = ran.read_text().split()
    assert 0 < len(there) < 40
    code, said = ended(place.begin("sweep", *words))
    assert code == 0, said
    assert f"40 runs, {len(there)} unchanged, 0 failed" in said
    again = ran.read_text().split()[len(before) :]
    assert not there & {*again}
    assert len(again) == len({*again}) >= 40 - len({*before})
    assert {*before, *again} == {*map(str, range(40))}
    code, said = ended(place.begin("sweep", *words, "--json", "--dry-run"))
    assert not any(json.loads(said.splitlines()[0])["runs"].values())


def free(lock: Path) -> bool:
    """Tell whether nobody holds it."""
    with lock.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def test_a_second_runner_of_a_folder_is_refused_and_the_first_goes_on(place):
    first = place.begin("run", "--studies", "00")
    place.reached("00")
    code, said = place.run("run", "--studies", "01")
    assert code == 2
    assert said.splitlines()[-1].startswith("crmresearch: another run is writing")
    assert "wait for it, or choose another --out" in said
    place.go("00")
    code, said = ended(first)
    assert code == 0, said
    assert place.page() == "seed 1\n"


# --- the bank changes or breaks --------------------------------------------------------------------------------------


def test_a_source_that_changes_meanwhile_is_ignored_and_said(place, monkeypatch):
    first = place.begin("run", "--jobs", "1", ROWS="1")
    place.reached("00")
    with (place.bank / "customers.csv").open("a") as file:
        file.write("client-0040,2019-03-01,2020-01-01\n")
    monkeypatch.setenv("CRMRESEARCH_CACHE", place.environment["CRMRESEARCH_CACHE"])
    assert open_bank(place.bank).rows("customers") == 41  # the new state is loaded, and the run's remains
    place.go("00", "01")
    code, said = ended(first)
    assert code == 0
    assert "note: the bank's files changed meanwhile; this run shows them as they were when it began" in said
    assert [place.page(name) for name in ("00_a", "01_b")] == ["seed 1\n40\n"] * 2
    with (place.bank / "customers.csv").open("a") as file:
        file.write("client-0041,2019-03-01,2020-01-01\n")
    assert open_bank(place.bank).rows("customers") == 42
    assert len(list((place.folder / "cache" / "banks").glob("*.duckdb"))) == 1  # nobody reads the others any more


def test_two_loaders_of_one_bank_load_it_once_and_agree(place):
    both = [place.begin("bank", "check", str(place.bank)) for _ in range(2)]
    said = [ended(process) for process in both]
    assert said[0] == said[1]
    assert said[0][0] == 0
    assert len(list((place.folder / "cache" / "banks").glob("*.duckdb"))) == 1


# --- machine and surroundings ----------------------------------------------------------------------------------------


def test_path_with_spaces_and_chinese_other_zone_locale_and_no_home(tmp_path, installed, monkeypatch):
    place = Place(tmp_path / "a bank 银行 ü", installed)
    place.go("00", "01")
    (tmp_path / "home").write_text("no folder")
    ways = {"HOME": str(tmp_path / "home"), "TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    code, said = place.run("run", ROWS="1", **ways)
    assert code == 0, said
    assert r"a bank \u94f6\u884c \xfc" in said
    assert place.page() == "seed 1\n40\n"
    monkeypatch.setenv("CRMRESEARCH_CACHE", place.environment["CRMRESEARCH_CACHE"])
    here = open_bank(place.bank)  # in another zone and locale: the same data, days and all
    there = json.loads((place.out / "run.json").read_text("utf-8"))
    assert there["fingerprints"]["data"] == here.engine.fingerprint()
    assert there["bank"] == here.about.plain() | {"tables": ["customers"]}


def test_a_home_that_cannot_be_written_and_a_folder_that_cannot_are_one_line_each(place):
    (place.folder / "home").write_text("no folder")
    del place.environment["CRMRESEARCH_CACHE"]
    nowhere = {"HOME": str(place.folder / "home")}
    code, said = place.run("run", **nowhere)
    assert code == 2
    assert re.search(
        r"^crmresearch: the cache folder cannot be made .*; set CRMRESEARCH_CACHE to one that can$", said, re.M
    )
    place.environment["CRMRESEARCH_CACHE"] = str(place.folder / "cache")  # the remedy
    place.out = place.folder / "home" / "run"
    code, said = place.run("run", **nowhere)
    assert code == 2
    assert re.search(r"^crmresearch: cannot write to .*; choose another --out$", said, re.M)
    place.out = place.folder / "run"
    place.go("00")
    assert place.run("run", "--studies", "00", **nowhere)[0] == 0


def test_what_a_notebook_gives_away_is_found_and_goes_nowhere(place):
    """By the command alone: the run fails, its site is withheld, and what is packed lacks the page."""
    leak = "from crmresearch.data.bank import open_bank\nbank = open_bank(bank_name)\n"
    leak += 'print(bank.frame(bank.table("customers")).customer_id[7])'
    notebook(place.folder / "notebooks" / "02_pseudonym.ipynb", leak, parameters=PARAMETERS)
    notebook(place.folder / "notebooks" / "03_client.ipynb", 'print("client 00", "07", sep="")', parameters=PARAMETERS)
    place.go("00")
    secret = {"CRMRESEARCH_KEY": "the key of the place, which is secret"}
    code, said = place.run("run", "--studies", "00,02,03", **secret)
    assert code == 1
    found = [f"notebooks/{name}.ipynb" for name in ("02_pseudonym", "03_client")]
    for name in found:
        assert f"disclosure: customer identifier in {name}, cells" in said
    assert not (place.out / "site").exists()
    assert not any(secret["CRMRESEARCH_KEY"].encode() in p.read_bytes() for p in place.folder.rglob("*") if p.is_file())
    for words, status in ((["check"], 1), (["site"], 1), (["release"], 1)):
        more = [str(place.folder / "out.zip")] if words == ["release"] else []
        code, said = ended(place.begin(*words, str(place.out), *more, **secret))
        assert code == status, said
        assert all(name in said for name in found)
    with zipfile.ZipFile(place.folder / "out.zip") as packed:
        assert "notebooks/00_a.ipynb" in packed.namelist()
        assert not {*found} & {*packed.namelist()}
    code, said = ended(place.begin("check", str(place.out)))  # without the key nobody's identifiers can be looked for
    assert code == 1
    assert "name it: --bank PATH" in said


LIMIT = """import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
from crmresearch.run.cli import main
main()"""


def limited(place: Place, size: int, *words: str) -> tuple[int, str]:
    """Run a command whose files may hold so many bytes."""
    command = [sys.executable, "-c", LIMIT, str(size), *words]
    done = subprocess.run(command, cwd=place.folder, env=place.environment, capture_output=True, text=True)
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(place):
    code, said = limited(place, 100_000, "bank", "check", str(place.bank))
    assert code == 1
    assert re.fullmatch(
        r"crmresearch: no room for tiny-\w+: the disk of .* has [\d,]+ MB free, and about 20 MB are needed; free some, "
        r"or set CRMRESEARCH_CACHE to a folder on another disk\n",
        said,
    )
    assert [p for p in (place.folder / "cache" / "banks").iterdir() if p.suffix == ".duckdb" or p.is_dir()] == []
    place.go("00")
    assert place.run("run", "--studies", "00")[0] == 0
    before = {p: p.read_bytes() for p in place.out.rglob("*") if p.is_file()}
    again = ["run", "--bank", str(place.bank), "--studies", "00", "--out", str(place.out), "--force"]
    code, said = limited(place, 500, *again)
    assert code == 1
    last = said.splitlines()[-1]
    assert last.startswith("crmresearch: no room for ")
    assert "about 20 MB are needed; the earlier run, if any, is as it was; free some" in last
    assert {p: p.read_bytes() for p in place.out.rglob("*") if p.is_file()} == before
    assert place.beside() == []


def test_a_cell_that_takes_all_memory_loses_its_own_notebook_alone(place):
    hog = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (4 << 30, -1))\nb = bytearray(1 << 34)"
    killed = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)  # as the system does where memory is short"
    hanging = "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 30))\ntime.sleep(600)"
    for name, source in (("02_hog", hog), ("03_killed", killed), ("04_hanging", hanging)):
        notebook(place.folder / "notebooks" / f"{name}.ipynb", source, parameters=PARAMETERS)
    place.go("00")
    code, said = place.run("run", "--studies", "00,02,03,04", "--timeout", "30")
    assert code == 1
    lines = said.splitlines()
    assert "02_hog failed: MemoryError:  (cell c0)" in lines
    assert "03_killed kernel died: the kernel died (killed, or out of memory; --jobs 1 needs less) (cell c0)" in lines
    assert "04_hanging timed out: not finished after 30 s (cell c0)" in lines
    again = shlex.join(["--studies", "00,02,03,04", "--timeout", "30", "--bank", str(place.bank)])
    assert lines[-1] == f"run again what failed: crmresearch run {again} --out {place.out}"
    status = json.loads((place.out / "status.json").read_text())
    assert status["notebooks"]["00_a"]["status"] == "completed"

"""A run is nobody else's: what listens for it answers those alone who have its keys, and an open scheduler is used only when told to."""

import http.client
import json
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import dask
import psutil
import pytest
from distributed import SpecCluster
from distributed.security import Security
from tests.conftest import CLASSIFIER, draw_pictures, quiet, save_victim, tiny_spec

from medadv.common.errors import ExitCode, SpecError
from medadv.prepare.request import Address, Options
from medadv.run import cluster, keys
from medadv.run.pages import GuardedScheduler, UnseenScheduler
from medadv.run.run import run


def context(folder: Path, shown: keys.Keys | None) -> ssl.SSLContext:
    """A client that trusts everybody, and shows a certificate or none."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    if shown is not None:
        (folder / "pair.pem").write_text(shown.key + shown.certificate)
        made.load_cert_chain(folder / "pair.pem")
    return made


def heard(port: int, how: ssl.SSLContext | None, patience_s: float) -> bytes:
    """What a server says first. Dask's introduces itself to whoever is let in."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=patience_s) as plain, how.wrap_socket(plain) if how else plain as talk:
            talk.settimeout(patience_s)
            return talk.recv(100)
    except (OSError, ssl.SSLError):
        return b""


def listening() -> list[Any]:
    """Addresses on which this process and its children wait for TCP connections."""
    found = []
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        # A child may end between being listed and being asked.
        with suppress(psutil.NoSuchProcess):
            found += [c.laddr for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    return found


def test_whoever_lacks_a_runs_keys_gets_no_word_from_its_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Workers that need no torch are there at once.
    monkeypatch.setattr(cluster, "_fork_from_one_import", lambda: None)
    # A folder for temporary files of its own: what others make and remove meanwhile is not looked at.
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = set(listening())
    with cluster.connect(1, 1, "cpu", Address()) as pool:
        pool.submit("works", abs, -3)
        while (answer := pool.wait(1.0)) is None:
            pass
        assert answer == ("works", 3, None)
        opened = set(listening()) - before
        security = pool.client.security
        own = context(tmp_path, keys.Keys(security.tls_client_cert, security.tls_client_key))
        callers = {"plain": None, "nameless": context(tmp_path, None), "stranger": context(tmp_path, keys.new_keys()), "own": own}
        # Silence is waited for a moment, the answer for as long as a busy machine takes.
        patience = {who: 20.0 if who == "own" else 0.5 for who in callers}
        found = {who: [heard(address.port, how, patience[who]) != b"" for address in sorted(opened)] for who, how in callers.items()}
    assert {address.ip for address in opened} == {"127.0.0.1"}
    # The scheduler, a nanny and a worker, each told by its own keys: no other port, and so no page for a browser.
    assert found["own"].count(True) == len(opened) >= 3
    assert not any(found["plain"] + found["nameless"] + found["stranger"])
    assert not list(Path(tempfile.gettempdir()).glob("**/dask.pem"))


def test_each_cluster_has_keys_of_its_own_and_workers_on_gpus_too(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, Any]] = []
    monkeypatch.setattr(cluster, "SpecCluster", lambda **given: started.append(given) or given)
    for environments in ([{}], [{"CUDA_VISIBLE_DEVICES": "0"}]):
        cluster._local(environments, 1 << 30, False)
    parts = [part for made in started for part in (made, made["scheduler"]["options"], made["workers"][0]["options"])]
    assert len({part["security"].tls_client_key for part in parts}) == 2
    for part in parts:
        security = part["security"]
        assert security.require_encryption
        assert security.tls_ca_file == security.tls_client_cert == security.tls_scheduler_cert == security.tls_worker_cert
    assert {part["protocol"] for part in parts if "protocol" in part} == {"tls://"}
    assert {made["scheduler"]["cls"] for made in started} == {UnseenScheduler}


@pytest.fixture(scope="module")
def pages() -> Iterator[GuardedScheduler]:
    """A scheduler with a dashboard, and no worker."""
    with dask.config.set(cluster._settings()), cluster._local([], 1 << 30, True) as started:
        yield started.scheduler


def asked(scheduler: GuardedScheduler, path: str, cookie: str = "") -> http.client.HTTPResponse:
    where = urlsplit(scheduler.link)
    with closing(http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)) as connection:
        connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
        return connection.getresponse()


def test_a_dashboard_is_shown_to_who_has_its_token(pages: GuardedScheduler) -> None:
    for path in ("/", "/health", "/status", "/sitemap.json", "/info/main/workers.html", "/nothing", "/health?token=", "/health?token=abc"):
        assert asked(pages, path).status == 403, path
    link = urlsplit(pages.link)
    entered = asked(pages, f"//elsewhere/status?{link.query}")
    cookie = entered.headers["Set-Cookie"]
    assert (entered.status, entered.headers["Location"]) == (302, "/elsewhere/status")
    assert "httponly" in cookie.lower()
    assert asked(pages, "/health", cookie.partition(";")[0]).status == 200
    assert asked(pages, "/health", cookie.partition("=")[0] + "=abc").status == 403


@pytest.fixture
def files(tmp_path: Path) -> Address:
    """TLS files alone."""
    cert, key = keys.write_keys(tmp_path / "keys")
    return Address(tls_ca=cert, tls_cert=cert, tls_key=key)


@pytest.mark.parametrize("address", ["tcp://10.1.2.3:8786", "tcp://127.0.0.1:8786", "127.0.0.1:8786", "ws://host:1", "tls://host:8786"])
def test_an_open_scheduler_is_refused_before_any_work_unless_told_otherwise(address: str, tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path)
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": address}))
    for given in (Address(address), Address(file=file)):
        with pytest.raises(SpecError, match=r"medadv\.run\.keys.*--insecure-scheduler") as caught:
            run(spec, Options(scheduler=given), quiet)
        assert caught.value.exit_code == ExitCode.SPEC == 2
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "corpus").exists()
    assert cluster.given(Address(file=file, insecure=True)) == (address, None)


def test_a_scheduler_under_tls_is_used_with_files_or_with_dasks_own_settings(files: Address) -> None:
    shown = {"tls_ca": files.tls_ca, "tls_cert": files.tls_cert, "tls_key": files.tls_key}
    address, security = cluster.given(Address("tls://host:8786", **shown))
    assert (address, security.tls_client_key, security.require_encryption) == ("tls://host:8786", str(files.tls_key), True)
    with pytest.raises(SpecError, match="speaks no TLS"):
        cluster.given(Address("tcp://host:8786", **shown))
    own = {f"distributed.comm.tls.{key}": str(files.tls_cert) for key in ("ca-file", "client.cert", "client.key")}
    with dask.config.set(own):
        assert cluster.given(Address("tls://host:8786")) == ("tls://host:8786", None)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, "no JSON"])
def test_a_file_that_is_no_scheduler_file_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "scheduler.json").write_text(text)
    with pytest.raises(SpecError, match=r"scheduler\.json: no scheduler file"):
        cluster.given(Address(file=tmp_path / "scheduler.json", insecure=True))
    with pytest.raises(SpecError, match="no such scheduler file"):
        cluster.given(Address(file=tmp_path / "missing.json"))


def test_keys_are_written_for_their_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["keys", str(tmp_path / "made")])
    keys.main()
    assert "--tls-key" in capsys.readouterr().out
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "made", *(tmp_path / "made").iterdir()]}
    assert modes == {"made": 0o700, "cert.pem": 0o600, "key.pem": 0o600}
    with pytest.raises(SystemExit) as caught:
        keys.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f"medadv: {tmp_path}/made: no keys can be written there")


class Jobs(SpecCluster):
    """dask-jobqueue's cluster, without SLURM: a real scheduler, and whatever else it was asked for."""

    def __init__(self, *, security: Security, protocol: str, scheduler_options: dict[str, Any], **asked: Any) -> None:
        self.asked = asked
        options = {"host": "127.0.0.1", "protocol": protocol, "security": security, **scheduler_options}
        super().__init__(workers={}, scheduler={"cls": "distributed.Scheduler", "options": options}, security=security, silence_logs=50)

    def adapt(self, **_: Any) -> None:
        pass


def test_a_cluster_of_slurm_jobs_is_closed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobqueue: ModuleType) -> None:
    monkeypatch.setattr(jobqueue, "SLURMCluster", Jobs)
    seen: list[Any] = []

    def medadv(command: list[str], **_: Any) -> Any:
        options = dict(zip(command[5::2], command[6::2], strict=True))
        assert command[1:5] == ["-m", "medadv", "run", str(tmp_path / "spec.yaml")]
        folder = Path(options["--tls-key"]).parent
        seen.extend(stat.S_IMODE(path.stat().st_mode) for path in (folder.parent, folder, *sorted(folder.iterdir())))
        port = int(options["--scheduler"].rpartition(":")[2])
        own = keys.Keys(Path(options["--tls-cert"]).read_text(), Path(options["--tls-key"]).read_text())
        ways = (None, context(tmp_path, None), context(tmp_path, keys.new_keys()), context(tmp_path, own))
        # As above: only who is let in hears anything, and may have to wait for it.
        seen.append([heard(port, how, 20.0 if how is ways[-1] else 0.5) != b"" for how in ways])
        assert cluster.given(Address(options["--scheduler"], None, *(Path(options[f"--tls-{name}"]) for name in ("ca", "cert", "key"))))
        return SimpleNamespace(returncode=7)

    monkeypatch.setattr(subprocess, "run", medadv)
    monkeypatch.setattr(sys, "argv", ["jobqueue.py", str(tmp_path / "spec.yaml")])
    assert jobqueue.main() == 7
    assert seen == [0o700, 0o700, 0o600, 0o600, [False, False, False, True]]
    assert list(tmp_path.glob(".medadv-keys-*")) == []


def test_a_run_given_an_open_scheduler_by_hand_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--insecure-scheduler hands the address on as it is."""
    draw_pictures(tmp_path / "data", 2)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    asked_for: list[tuple[Any, ...]] = []

    def client(address: str, **given: Any) -> Any:
        asked_for.append((address, given["security"]))
        raise OSError("nobody there")

    monkeypatch.setattr(cluster, "Client", client)
    with pytest.raises(Exception, match=r"no scheduler answers at tcp://127\.0\.0\.1:1"):
        run(tiny_spec(tmp_path), Options(scheduler=Address("tcp://127.0.0.1:1", insecure=True)), quiet)
    assert asked_for == [("tcp://127.0.0.1:1", None)]

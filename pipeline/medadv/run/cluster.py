"""Dask: a local cluster, or a scheduler that runs already. The scheduler decides who makes a shard and when, never how."""

import json
import multiprocessing
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
from dask.utils import format_bytes, parse_timedelta
from distributed import Client, Future, Nanny, SpecCluster
from distributed.scheduler import KilledWorker
from distributed.security import Security
from distributed.utils import get_mp_context

from medadv.common.errors import RunError, SpecError
from medadv.common.machine import visible_gpus, worker_memory
from medadv.common.record import Json
from medadv.common.threads import SHARERS
from medadv.prepare.request import Address
from medadv.run.keys import new_keys
from medadv.run.pages import GuardedScheduler, UnseenScheduler, UnseenWorker

# A task whose worker never comes would wait for ever; this turns it into an error.
NO_WORKERS_TIMEOUT = "5 minutes"
LOCAL_TIMEOUT = "50 s"
"""Likewise for workers that are started here: a nanny whose worker died has another one up in seconds."""
# glibc keeps what a tensor leaves for the next one. By default it gives large blocks back to the kernel, which clears every page again
# before the next step of an attack may use it: a third of the time at 384 x 384 pixels. Dask's own MALLOC_TRIM_THRESHOLD_ makes it worse.
KEEP_MEMORY = {"MALLOC_ARENA_MAX": 1, "MALLOC_MMAP_MAX_": 0, "MALLOC_TRIM_THRESHOLD_": 1 << 40}
AHEAD = 3
"""Shards submitted per worker: enough to keep it busy, few enough that a million shards do not live in the scheduler."""
STARTS = 3
LOOK_EVERY_S = 2.0
CONNECT_TIMEOUT = "30s"


NO_WORKER = "no Dask worker has been there for too long; every finished shard is kept, see why they end and run again"


class WorkersDiedError(Exception):
    """The scheduler gave a shard up because workers died on it."""


@dataclass
class Pool:
    """Workers behind a client. Results come back in whatever order they are ready."""

    client: Client
    about: str
    """What the pool is, for the user: workers, threads, memory, and the dashboard with its token where one was asked for."""
    finished: "queue.SimpleQueue[tuple[str, Future]]" = field(default_factory=queue.SimpleQueue)
    futures: dict[str, Future] = field(default_factory=dict)
    submitted: int = 0
    workers: int = 0
    looked: float = float("-inf")
    missing_since: float | None = None

    def submit(self, name: str, function: Callable[..., Any], *arguments: Any) -> None:
        """Have a worker call a function; `name` identifies its result."""
        self.submitted += 1
        # Not pure, and a key of its own: a shard made again after its receipt was lost is a new task.
        future = self.client.submit(function, *arguments, pure=False, key=f"{name}-{self.submitted}")
        self.futures[name] = future
        future.add_done_callback(lambda done: self.finished.put((name, done)))

    def wait(self, seconds: float) -> tuple[str, Any, BaseException | None] | None:
        """The next result: name, value and error; None when none came in time.

        Raises:
            RunError: the scheduler is lost, or no worker has been there for `distributed.scheduler.no-workers-timeout`.
        """
        try:
            name, future = self.finished.get(timeout=seconds)
        except queue.Empty:
            self._look()
            return None
        if self.futures.pop(name, None) is None:
            return None
        status = future.status
        if status == "finished":
            try:
                return name, future.result(), None
            except Exception as error:
                # The result was lost with the worker that had it.
                return name, None, _translated(error)
        if status == "error":
            return name, None, _translated(future.exception())
        raise RunError("the connection to the Dask scheduler was lost; every finished shard is kept, run again to go on")

    def window(self) -> int:
        """How many shards may be known to the scheduler at a time."""
        if time.monotonic() - self.looked > LOOK_EVERY_S:
            self._look()
        return AHEAD * max(1, self.workers)

    def _look(self) -> None:
        self.looked = time.monotonic()
        if self.client.status != "running":
            raise RunError("the connection to the Dask scheduler was lost; every finished shard is kept, run again to go on")
        self.workers = len(self.client.scheduler_info(n_workers=0).get("workers", ())) or len(self.client.nthreads())
        if self.workers or not self.futures:
            self.missing_since = None
            return
        self.missing_since = self.missing_since or self.looked
        limit = parse_timedelta(dask.config.get("distributed.scheduler.no-workers-timeout") or NO_WORKERS_TIMEOUT)
        if self.looked - self.missing_since > limit:
            raise RunError(NO_WORKER)


def _translated(error: BaseException) -> BaseException:
    if isinstance(error, KilledWorker):
        return WorkersDiedError(str(error.task))
    if type(error).__name__ in ("NoValidWorkerError", "NoWorkerError"):
        return RunError(NO_WORKER)
    return error


@contextmanager
def connect(workers: int, threads: int, device: str, scheduler: Address, *, dashboard: bool = False) -> Iterator[Pool]:
    """A pool of local processes on loopback, which speak TLS with keys that live as long as they do, or of the scheduler at an address.

    workers: how many local processes, at most one per GPU when `device` is cuda.  threads: what one of them computes with.
    dashboard: whether local workers can be looked at, by who has the token in `Pool.about`.

    Raises:
        SpecError: the scheduler that is given may not be used, see `given`.
        RunError: nobody answers there, or local workers do not start.
    """
    if scheduler.is_given:
        with _remote(scheduler) as client:
            yield Pool(client, f"Dask scheduler {client.scheduler.address}")
        return
    method = "spawn" if device == "cuda" else "forkserver"
    with dask.config.set({**_settings(), "distributed.worker.multiprocessing-method": method}):
        if device != "cuda":
            _fork_from_one_import()
        gpus = visible_gpus() if device == "cuda" else []
        workers = min(workers, len(gpus)) if gpus else workers
        limit = worker_memory(workers)
        kind = f"on GPU {', '.join(gpus[:workers])}" if gpus else f"with {threads} thread{'s' * (threads > 1)} each"
        about = f"{workers} worker{'s' * (workers > 1)} {kind}, at most {format_bytes(limit)} of memory each"
        environments = [{"CUDA_VISIBLE_DEVICES": gpu, SHARERS: str(workers)} for gpu in gpus[:workers]] or [{}] * workers
        with (
            _started(lambda: _local(environments, limit, dashboard)) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield Pool(client, about + (f", dashboard {cluster.scheduler.link}" if dashboard else ""))


def given(scheduler: Address) -> tuple[str, Security | None]:
    """The address of a scheduler that runs already, and what is shown there: the TLS files that are named, or Dask's own settings.

    Raises:
        SpecError: no scheduler file, TLS files that are missing, or none at all and nobody said that the scheduler may be open:
            whoever reaches it has its workers run what they like, as the owner of the run, on loopback too.
    """
    address = scheduler.address or _written(scheduler.file)
    security = _security(scheduler)
    shown = security or Security()
    if scheduler.insecure or (address.startswith("tls://") and shown.tls_client_cert and shown.tls_ca_file):
        return address, security
    lacks = "asks for TLS files, and none are given" if address.startswith("tls://") else "speaks no TLS"
    raise SpecError(
        f"the scheduler at {address} {lacks}: whoever reaches one without can run code as you. `python -m medadv.run.keys FOLDER` makes "
        "keys, and says how to start it with them; --insecure-scheduler takes it as it is"
    )


def _written(file: Path | None) -> str:
    """The address in a scheduler file."""
    try:
        return str(json.loads(Path(file or "").read_text())["address"])
    except OSError:
        raise SpecError(f"{file}: no such scheduler file") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SpecError(f"{file}: no scheduler file; `dask scheduler --scheduler-file FILE` writes one") from None


@contextmanager
def _remote(scheduler: Address) -> Iterator[Client]:
    address, security = given(scheduler)
    try:
        client = Client(address, security=security, timeout=CONNECT_TIMEOUT, set_as_default=False)
    except (OSError, TypeError, ValueError) as error:
        raise RunError(f"no scheduler answers at {address} ({error})") from None
    with client:
        yield client


def _security(scheduler: Address) -> Security | None:
    """TLS with mutual authentication, None where no files are named."""
    files = (scheduler.tls_ca, scheduler.tls_cert, scheduler.tls_key)
    if not any(files):
        return None
    if not all(files):
        raise SpecError("TLS needs all three files: --tls-ca, --tls-cert and --tls-key")
    for path in files:
        if path is not None and not path.is_file():
            raise SpecError(f"{path}: no such file (TLS)")
    ca, cert, key = map(str, files)
    return Security(tls_ca_file=ca, tls_client_cert=cert, tls_client_key=key, require_encryption=True)


def _settings() -> dict[str, Json]:
    return {
        "distributed.scheduler.no-workers-timeout": dask.config.get("distributed.scheduler.no-workers-timeout") or LOCAL_TIMEOUT,
        # The journal counts the deaths on each shard; Dask blames whatever else lay on the dead worker as well.
        "distributed.scheduler.allowed-failures": 20,
        # A worker has one shard at a time: a second one would wait behind it while other workers are idle.
        "distributed.scheduler.worker-saturation": 1.0,
        # Torch's memory is not Dask's to spill, and a paused worker would wait for ever; one beyond its limit is ended by its nanny.
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": 0.95,
        "distributed.worker.preload": ["medadv.run.signals"],
        # Dask's own watching (stacks every 10 ms, a tick every 20 ms, the interpreter lock every 1 ms) costs a single-threaded worker a
        # tenth of its time; a shard takes seconds, so a look every few seconds shows as much.
        "distributed.worker.profile.enabled": False,
        "distributed.admin.tick.interval": "1s",
        "distributed.admin.system-monitor.interval": "5s",
        "distributed.admin.system-monitor.gil.enabled": False,
        "distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": 1, "MKL_NUM_THREADS": 1, "OPENBLAS_NUM_THREADS": 1, **KEEP_MEMORY},
    }


def _fork_from_one_import() -> None:
    """Have local workers forked from a process that imported torch once: a worker that died is back at once, and cores start together.

    Only for workers on the CPU: CUDA does not outlive a fork.
    """
    get_mp_context()  # sets Dask's own list the first time; ours must come after
    multiprocessing.set_forkserver_preload(["medadv.run.forkserver", "distributed", "medadv.run.worker"])


def _started(start: Callable[[], SpecCluster]) -> SpecCluster:
    """A cluster whose workers came up: one that is killed in the moment of its start fails the whole cluster, so try again."""
    for _ in range(STARTS - 1):
        try:
            return start()
        except (RuntimeError, OSError, TimeoutError):
            time.sleep(1.0)
    try:
        return start()
    except (RuntimeError, TimeoutError) as error:
        raise RunError(f"the workers do not start ({error.__cause__ or error}); is there memory for them?") from None


def _local(environments: Sequence[Mapping[str, str]], limit: int, dashboard: bool) -> SpecCluster:
    """A scheduler in this process and one nanny an environment, all on loopback. The keys are in their memory alone."""
    keys = new_keys()
    pems = {"cert": keys.certificate, "key": keys.key}
    roles = {f"tls_{role}_{kind}": pem for role in ("client", "scheduler", "worker") for kind, pem in pems.items()}
    security = Security(tls_ca_file=keys.certificate, require_encryption=True, **roles)
    here = {"host": "127.0.0.1", "protocol": "tls://", "security": security}
    options = {**here, "nthreads": 1, "memory_limit": limit, "silence_logs": 50, "worker_class": UnseenWorker}
    pages = {"dashboard": dashboard, "dashboard_address": "127.0.0.1:0"}
    return SpecCluster(
        workers={number: {"cls": Nanny, "options": {**options, "env": env}} for number, env in enumerate(environments)},
        scheduler={"cls": GuardedScheduler if dashboard else UnseenScheduler, "options": {**here, **pages}},
        security=security,
        silence_logs=50,
    )

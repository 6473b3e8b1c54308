"""A corpus at an address: a cache that is smaller than it, connections that break, bytes that are others, and nobody there."""

import fcntl
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from tests.corpus.file_server import FileServer, serving
from tests.training.small_corpora import sharded
from torch.utils.data import DataLoader

from medadv.common import cache as cache_module
from medadv.common import remote
from medadv.common.cache import Cache, default_folder
from medadv.common.errors import FetchError, IntegrityError, RunError, SpecError
from medadv.common.hashing import hash_bytes, hash_file
from medadv.common.remote import Address
from medadv.training.collate import collate
from medadv.training.dataset import CorpusDataset
from medadv.training.monai_reader import datalist

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
SHARD = "shards/shard-00001.h5"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six shards of four photographs."""
    return sharded(tmp_path_factory.mktemp("remote") / "corpus", side=64)


@pytest.fixture
def server(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'medadv[remote]'")
    monkeypatch.setattr(remote, "PAUSE_S", 0.01)
    with serving(corpus) as found:
        yield found


@pytest.fixture(scope="module")
def bucket(corpus: Path) -> Iterator[tuple[str, Any]]:
    """The same corpus in a bucket of moto's server: its address, and a client."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'medadv[remote]'")
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    import boto3

    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        service = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        service.start()
        host, port = service.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        client = boto3.client("s3")
        client.create_bucket(Bucket="medadv")
        for path in corpus.rglob("*"):
            if path.is_file():
                client.put_object(Bucket="medadv", Key=f"a/{path.relative_to(corpus).as_posix()}", Body=path.read_bytes())
        yield "s3://medadv/a", client
        client.close()
        service.stop()


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    same = [torch.equal(one[key], other[key]) if isinstance(one[key], torch.Tensor) else one[key] == other[key] for key in one]
    return one.keys() == other.keys() and all(same)


def largest(corpus: Path) -> int:
    return max(path.stat().st_size for path in (corpus / "shards").iterdir())


def through_a_small_cache(address: str, corpus: Path, cache: Path) -> None:
    """Everything, by two workers, in a cache that holds less than half of it and is never larger."""
    limit = int(2.5 * largest(corpus))
    dataset = CorpusDataset(address, cache=cache, cache_bytes=limit)
    loader, local, sizes = DataLoader(dataset, batch_size=2, num_workers=2, collate_fn=collate), CorpusDataset(corpus), []
    for number, batch in enumerate(loader):
        sizes.append(Cache(cache).used())
        expected = collate([local[2 * number], local[2 * number + 1]])
        assert equal(batch, expected), number
    assert len(sizes) == 12
    assert 0 < max(sizes) <= limit


def test_two_workers_read_a_server_of_http_through_a_cache_smaller_than_the_corpus(
    server: FileServer, corpus: Path, tmp_path: Path
) -> None:
    through_a_small_cache(f"{server.address}/manifest.json", corpus, tmp_path)


def test_two_workers_read_a_bucket_of_s3_through_a_cache_smaller_than_the_corpus(
    bucket: tuple[str, Any], corpus: Path, tmp_path: Path
) -> None:
    through_a_small_cache(bucket[0], corpus, tmp_path)


def test_processes_that_share_a_cache_fetch_each_shard_once(server: FileServer, tmp_path: Path) -> None:
    datasets = [CorpusDataset(server.address, cache=tmp_path) for _ in range(2)]
    loaders = [iter(DataLoader(dataset, batch_size=2, num_workers=1, collate_fn=collate)) for dataset in datasets]
    for _ in range(12):
        assert equal(*(next(loader) for loader in loaders))
    assert {server.asked[f"shards/shard-{number:05d}.h5"] for number in range(6)} == {1}


def some_came(cache: Path) -> bool:
    """Whether something of a file has come that is being fetched."""
    return any(part.stat().st_size for part in (cache / "files").glob("*.part"))


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_breaks_is_taken_up_again(ranges: bool, server: FileServer, corpus: Path, tmp_path: Path) -> None:
    server.ranges, server.cut[SHARD] = ranges, [40_000, 40_000] if not ranges else [40_000]
    server.taken = lambda: some_came(tmp_path)
    assert equal(CorpusDataset(server.address, cache=tmp_path)[5], CorpusDataset(corpus)[5])
    starts = [start for name, start in server.starts if name == SHARD]
    assert len(starts) == (2 if ranges else 3)
    assert (starts[1] > 0) is ranges, "goes on from there, unless the server cannot"


def test_what_was_fetched_outlives_the_one_who_gave_up(server: FileServer, corpus: Path, tmp_path: Path) -> None:
    server.cut[SHARD], server.taken = [40_000] * 6, lambda: some_came(tmp_path)
    dataset = CorpusDataset(server.address, cache=tmp_path)
    with pytest.raises(FetchError, match=rf"{SHARD}: not fetched \(ClientPayloadError"):
        dataset[5]
    server.cut.clear()
    server.starts.clear()
    assert equal(dataset[5], CorpusDataset(corpus)[5])
    assert [start > 0 for name, start in server.starts if name == SHARD] == [True]


def test_a_changed_byte_is_named(server: FileServer, corpus: Path, tmp_path: Path) -> None:
    server.flip[SHARD] = 5_000
    data = bytearray((corpus / SHARD).read_bytes())
    expected = hash_bytes(bytes(data))
    data[5_000] ^= 1
    said = f"{server.address}/{SHARD}: expected SHA-256 {expected}, found SHA-256 {hash_bytes(bytes(data))}: damaged"
    dataset = CorpusDataset(server.address, cache=tmp_path)
    with pytest.raises(IntegrityError, match=re.escape(said)):
        dataset[5]
    assert not (tmp_path / "files" / expected).exists()
    assert not list((tmp_path / "files").glob(f"{expected}*"))
    assert dataset[9]["sample_id"] == "s9", "the others are read"


def test_a_changed_object_of_s3_is_named(bucket: tuple[str, Any], corpus: Path, tmp_path: Path) -> None:
    address, client = bucket
    data = bytearray((corpus / "shards/shard-00004.h5").read_bytes())
    data[700] ^= 1
    client.put_object(Bucket="medadv", Key="a/shards/shard-00004.h5", Body=bytes(data))
    with pytest.raises(IntegrityError, match=rf"^s3://medadv/a/shards/shard-00004.h5: expected .*{hash_bytes(bytes(data))}"):
        CorpusDataset(address, cache=tmp_path)[17]
    client.delete_object(Bucket="medadv", Key="a/shards/shard-00004.h5")
    with pytest.raises(FetchError, match=r"^s3://medadv/a/shards/shard-00004.h5: there is no such file$"):
        CorpusDataset(address, cache=tmp_path)[17]


def test_a_file_of_another_size_is_named(server: FileServer, corpus: Path, tmp_path: Path) -> None:
    size = (corpus / SHARD).stat().st_size
    dataset = CorpusDataset(server.address, cache=tmp_path)
    server.extra[SHARD] = b"more" * 1000
    with pytest.raises(IntegrityError, match=f"{SHARD}: expected {size} bytes, found more than {size} bytes"):
        dataset[5]
    server.answers[SHARD] = 204
    with pytest.raises(IntegrityError, match=f"{SHARD}: expected {size} bytes, found 0 bytes"):
        dataset[5]


def test_a_changed_manifest_is_named(server: FileServer, corpus: Path, tmp_path: Path) -> None:
    server.flip["manifest.json"] = 12
    expected = hash_file(corpus / "manifest.json")
    with pytest.raises(IntegrityError, match=rf"manifest.json: expected SHA-256 {expected}, found [0-9a-f]{{64}}: one of"):
        CorpusDataset(server.address, cache=tmp_path)


def test_nothing_secret_of_an_address_is_said(server: FileServer, tmp_path: Path) -> None:
    address = server.address.replace("://", "://doctor:PASSWORD@") + "/manifest.json?sig=SECRET"
    server.flip[SHARD], server.answers["shards/shard-00002.h5"] = 5_000, 403
    dataset = CorpusDataset(address, cache=tmp_path / "one")
    assert dataset[0]["sample_id"] == "s0"
    assert server.queries == {"sig=SECRET"}, "every file is asked for with it"
    assert all("Authorization" in headers for headers in server.headers)
    said = [repr(dataset.parts[0].shards.corpus)]  # type: ignore[attr-defined]
    for index in (5, 9):
        with pytest.raises((FetchError, IntegrityError)) as caught:
            dataset[index]
        said.append(str(caught.value))
        assert "\n" not in said[-1]
    server.answers["manifest.json"] = 500
    with pytest.warns(UserWarning, match="the server answers 500") as warned:
        CorpusDataset(address, cache=tmp_path / "one")
    said += [str(one.message) for one in warned]
    assert "PASSWORD" not in " ".join(said)
    assert "SECRET" not in " ".join(said)
    assert all(f"http://127.0.0.1:{server.server_address[1]}" in one for one in said)
    kept = [path for path in (tmp_path / "one").rglob("*") if path.suffix in ("", ".json", ".sha256") and path.is_file()]
    assert not [path for path in kept if b"SECRET" in path.read_bytes() or b"PASSWORD" in path.read_bytes()]


def test_what_was_fetched_is_read_when_nobody_is_there(corpus: Path, tmp_path: Path, server: FileServer) -> None:
    dataset = CorpusDataset(server.address, cache=tmp_path)
    before = [dataset[index] for index in range(4)]
    wait_for(lambda: server.asked["shards/shard-00002.h5"] == 1 and not list((tmp_path / "files").glob("*.part")))
    server.end()
    with pytest.warns(UserWarning, match=r"manifest.json: not fetched \(ClientConnectorError: Connection refused\); read as it was"):
        dataset = CorpusDataset(server.address, cache=tmp_path)
    assert all(equal(dataset[index], before[index]) for index in range(4))
    assert dataset[8]["sample_id"] == "s8", "fetched ahead"
    with pytest.raises(FetchError, match=r"shard-00005.h5: not fetched"):
        dataset[23]
    with pytest.raises(FetchError, match="not fetched"):
        CorpusDataset(server.address, cache=tmp_path / "other")


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_next_shards_are_fetched_ahead_and_no_others(server: FileServer, corpus: Path, tmp_path: Path) -> None:
    dataset = CorpusDataset(server.address, cache=tmp_path, cache_bytes=int(4.5 * largest(corpus)))
    dataset[8]
    time.sleep(0.2)
    assert server.asked["shards/shard-00003.h5"] == 0, "whoever begins in the middle of a larger corpus may go anywhere"
    assert server.asked["shards/shard-00001.h5"] == 0
    dataset[12]
    dataset[16]
    wait_for(lambda: server.asked["shards/shard-00005.h5"] == 1)
    assert [server.asked[f"shards/shard-{number:05d}.h5"] for number in (0, 1, 3, 4)] == [0, 0, 1, 1]
    CorpusDataset(server.address, cache=tmp_path / "other", cache_bytes=int(4.5 * largest(corpus)))[0]
    wait_for(lambda: server.asked["shards/shard-00001.h5"] == server.asked["shards/shard-00002.h5"] - 1 == 1)


def test_a_shard_that_was_changed_in_the_cache_is_fetched_again(server: FileServer, corpus: Path, tmp_path: Path) -> None:
    dataset = CorpusDataset(server.address, cache=tmp_path)
    file = dataset.paths[1]
    assert equal(dataset[5], CorpusDataset(corpus)[5])
    with file.open("r+b") as stream:
        stream.seek(3_000)
        stream.write(b"damaged")
    assert equal(CorpusDataset(server.address, cache=tmp_path)[5], CorpusDataset(corpus)[5])
    assert server.asked[SHARD] == 2
    assert hash_file(file) == hash_file(corpus / SHARD)


def test_what_another_process_makes_room_of_meanwhile_is_fetched_again(
    server: FileServer, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, real, left = CorpusDataset(server.address, cache=tmp_path), Path.stat, iter([False, True])
    assert equal(dataset[5], CorpusDataset(corpus)[5])
    file = dataset.paths[1]

    def stat(self: Path, **more: Any) -> os.stat_result:
        found = real(self, **more)
        if self == file and more.get("follow_symlinks", True) and next(left, False):
            file.unlink()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", stat)
        again = CorpusDataset(server.address, cache=tmp_path)
    assert not file.exists()
    assert equal(again[5], CorpusDataset(corpus)[5])


@pytest.mark.usefixtures("server")
def test_what_cannot_be_is_refused_in_one_line(server: FileServer, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=f"cache_bytes=1000 is less than the largest shard of {server.address}, {largest(corpus)} bytes"):
        CorpusDataset(server.address, cache=tmp_path, cache_bytes=1000)
    with pytest.raises(SpecError, match="nosuch:// is no kind of address that is known, as"):
        CorpusDataset("nosuch://place/corpus", cache=tmp_path)
    with pytest.raises(SpecError, match="an address is read by CorpusDataset and `medadv verify`"):
        datalist(f"{server.address}?sig=SECRET")
    with pytest.raises(FetchError, match=r"elsewhere/manifest.json: there is no such file: no corpus"):
        CorpusDataset(f"{server.address}/elsewhere", cache=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SpecError, match="no cache can be made there"):
        CorpusDataset(server.address, cache=tmp_path / "file")


def writing(data: bytes) -> Callable[[BinaryIO], None]:
    def fill(target: BinaryIO) -> None:
        target.seek(0, os.SEEK_END)
        target.write(data[target.tell() :])

    return fill


def add(cache: Cache, data: bytes) -> Any:
    return cache.lease(hash_bytes(data), len(data), writing(data))


def test_what_somebody_has_open_is_not_removed_and_what_was_used_last_stays(tmp_path: Path) -> None:
    parts = [bytes([number]) * 1000 for number in range(6)]
    cache = Cache(tmp_path, 3500)
    held = add(cache, parts[0])
    for number in (1, 2, 1, 3):
        add(cache, parts[number]).close()
    assert [cache.holds(hash_bytes(part), 1000) for part in parts[:4]] == [True, True, False, True]
    held.close()
    add(cache, parts[4]).close()
    # Letting it go counts as using it.
    assert [cache.holds(hash_bytes(part), 1000) for part in parts[:5]] == [True, False, False, True, True]


def test_what_is_read_now_passes_the_limit_and_what_is_fetched_ahead_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medadv.common.cache.PATIENCE_S", 0.1)
    parts = [bytes([number]) * 1000 for number in range(4)]
    cache = Cache(tmp_path, 2500)
    with add(cache, parts[0]), add(cache, parts[1]):
        assert not cache.prefetch(hash_bytes(parts[2]), 1000, writing(parts[2]))
        assert cache.used() == 2000
        add(cache, parts[3]).close()
        assert cache.used() == 3000
    add(cache, parts[2]).close()
    assert cache.used() <= 2500


def test_what_becomes_whole_while_room_is_made_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [bytes([number]) * 1000 for number in range(2)]
    cache, whole, looked = Cache(tmp_path, 1500), threading.Event(), os.scandir

    def slow(target: BinaryIO) -> None:
        target.write(parts[0])
        assert whole.wait(20)

    def listing(folder: Path) -> list[os.DirEntry[str]]:
        found = list(looked(folder))
        if threading.current_thread() is not fetching:
            # Its last byte comes between the names of files and their sizes.
            whole.set()
            fetching.join(0.3)
        return found

    fetching = threading.Thread(target=lambda: cache.lease(hash_bytes(parts[0]), 1000, slow).close())
    fetching.start()
    while not list(cache.files.glob("*.part")):
        time.sleep(0.01)
    monkeypatch.setattr(os, "scandir", listing)
    with add(cache, parts[1]):
        assert cache.used() == 1000
    fetching.join()


def test_a_slow_download_ahead_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medadv.common.cache.PATIENCE_S", 0.1)
    parts, cache, sizes = [bytes([number]) * 1000 for number in range(2)], Cache(tmp_path, 2000), []
    begun = threading.Event()

    def slow(target: BinaryIO) -> None:
        target.write(parts[0])
        begun.set()
        time.sleep(0.6)

    ahead = threading.Thread(target=lambda: cache.prefetch(hash_bytes(parts[0]), 1000, slow))
    ahead.start()
    # Not when its file is there: it would find the smaller limit, and begin nothing.
    assert begun.wait(20)
    cache.limit = 1500
    with add(cache, parts[1]):
        sizes.append(cache.used())
    ahead.join()
    assert sizes == [1000]


def test_who_is_forked_while_room_is_made_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of a DataLoader are forked while a thread fetches ahead; they have its descriptors."""
    cache, looked, forked = Cache(tmp_path), os.scandir, []

    def listing(folder: Path) -> Any:
        forked.append(os.fork())
        if forked[-1] == 0:
            while True:
                signal.pause()
        return looked(folder)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", listing)
            assert cache.used() == 0
        assert len(forked) == 1
        with (tmp_path / "lock").open() as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        for child in forked:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_two_who_find_a_file_damaged_fetch_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"whole" * 200
    cache, digest, asked, found = Cache(tmp_path), cache_module._hash, [], []
    cache.path(hash_bytes(data)).write_bytes(b"torn " * 200)

    def fill(target: BinaryIO) -> None:
        asked.append(target.write(data))

    def slowly(descriptor: int) -> str:
        told = digest(descriptor)
        if not found:
            # Meanwhile another process finds the same, and has the file fetched and open.
            found.append(told)
            found.append(cache.lease(hash_bytes(data), len(data), fill))
        return told

    monkeypatch.setattr(cache_module, "_hash", slowly)
    with cache.lease(hash_bytes(data), len(data), fill) as lease, found[1] as other:
        assert other.path.read_bytes() == data
        assert lease.path.stat().st_ino == os.fstat(other._descriptor).st_ino
    assert len(asked) == 1


def test_who_is_killed_while_fetching_leaves_no_lock_and_what_it_has(tmp_path: Path) -> None:
    data, found = bytes(range(256)) * 40, []

    def dying(target: BinaryIO) -> None:
        target.write(data[:1000])
        target.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    process = get_context("fork").Process(target=lambda: Cache(tmp_path).lease(hash_bytes(data), len(data), dying))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL

    def rest(target: BinaryIO) -> None:
        found.append(len(target.read()))
        target.write(data[1000:])

    with Cache(tmp_path).lease(hash_bytes(data), len(data), rest) as lease:
        assert lease.path.read_bytes() == data
    assert found == [1000]


def test_a_full_disk_is_one_line(small_disk: Path) -> None:
    data = os.urandom(3 << 20)
    with pytest.raises(RunError, match=r"disk: the cache cannot be written \(No space left on device\)"):
        add(Cache(small_disk), data)


def test_addresses_are_understood_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("https://u:p@host/a/b/manifest.json?x=1", "https://u:p@host/a/b/?x=1", "https://u:p@host/a/b?x=1#part"):
        address = Address.of(text, "manifest.json")
        assert (address.url("f"), address.shown("f")) == ("https://u:p@host/a/b/f?x=1", "https://host/a/b/f")
    assert Address.of("s3://bucket/manifest.json", "manifest.json").url("shards/a.h5") == "s3://bucket/shards/a.h5"
    monkeypatch.setenv("MEDADV_CACHE", "/somewhere")
    assert default_folder() == Path("/somewhere")

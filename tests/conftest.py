"""What every test may ask for: a fresh database, an empty Redis, settings on both, or the whole running service."""

from __future__ import annotations

import gc
import os
import zlib

# Before torch is imported anywhere: two test processes on two cores, one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# An operator's settings must not steer the tests, least of all to the operator's database.
for _name in [name for name in os.environ if name.startswith("UNVEIL_")]:
    if not _name.startswith(("UNVEIL_TEST_", "UNVEIL_REQUIRE_")):
        del os.environ[_name]

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import boto3
import hypothesis
import pytest
import redis
from s3fs import S3FileSystem

from tests import servers
from unveil.app.local.stack import LocalStack
from unveil.app.settings import Settings
from unveil.models.data.sample import sample_test

_SAMPLE_CRC = 833018975
# A fast machine sends more requests in a second than the service allows; tests of the limits set their own.
UNLIMITED_PER_SECOND = 1e6

# The same examples in every run, and no limit of time: a test must not fail by chance or under load.
hypothesis.settings.register_profile(
    "repeatable", derandomize=True, database=None, deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)  # fmt: skip
hypothesis.settings.load_profile("repeatable")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One test process for all that share the running service, and one for each other module.

    The running service comes first: a process that began with it last would end long after the other.
    """
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("stack"))
        elif item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=lambda item: "stack" not in item.get_closest_marker("xdist_group").args)


def pytest_collection_finish() -> None:
    """Leave the half million objects of the imported modules out of every later garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def unchanged_sample() -> Iterator[None]:
    """The bundled images are shared by all tests of a process: none may write to them."""
    yield
    if sample_test.cache_info().currsize:
        assert zlib.crc32(sample_test()[0].data) == _SAMPLE_CRC, (
            "this test, or the thread of one before, wrote to the sample"
        )


@pytest.fixture(scope="session")
def server_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def postgres_url(server_state: Path) -> Iterator[str]:
    """A server on which databases may be made; tests want `database_url`."""
    with servers.postgres(server_state) as url:
        yield url


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> Iterator[str]:
    """The name of a database made by the migrations, to copy."""
    with servers.database(postgres_url) as url:
        servers.migrate(url)
        yield servers.name_of(url)


@pytest.fixture(scope="session")
def reused_database(postgres_url: str, template_database: str) -> Iterator[servers.ReusedDatabase]:
    with closing(servers.ReusedDatabase(postgres_url, template_database)) as database:
        yield database


@pytest.fixture
def database_url(reused_database: servers.ReusedDatabase) -> Iterator[str]:
    """A migrated database without rows, for this test alone."""
    yield reused_database.url
    reused_database.empty()


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """A database without tables, for tests of the migrations."""
    with servers.database(postgres_url) as url:
        yield url


@pytest.fixture(scope="session")
def redis_server_url(server_state: Path, worker_number: int) -> Iterator[str]:
    with servers.redis(server_state, worker_number) as url:
        yield url


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    """An empty Redis."""
    with redis.Redis.from_url(redis_server_url) as client:
        client.flushdb()
    return redis_server_url


@pytest.fixture(scope="session")
def object_store_url(server_state: Path) -> Iterator[str]:
    with servers.object_store(server_state / "object-store.log") as url:
        yield url


@pytest.fixture
def bucket_url(object_store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket for blobs, and the credentials where AWS's tools look for them."""
    S3FileSystem.clear_instance_cache()  # a client is kept for a process, wherever the environment sent it
    credentials = {"ENDPOINT_URL": object_store_url, "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}
    for name, value in {**credentials, "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    s3 = boto3.resource("s3")
    s3.create_bucket(Bucket="unveil")
    s3.Bucket("unveil").objects.all().delete()
    yield "s3://unveil/some/prefix"
    S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def worker_number() -> int:
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database_url,
        redis_url=redis_url,
        blob_url=(tmp_path / "blobs").as_uri(),
        data_dir=tmp_path / "data",
        requests_per_second=UNLIMITED_PER_SECOND,
        anonymous_requests_per_second=UNLIMITED_PER_SECOND,
    )


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """The whole service: uvicorn, workers and servers as real processes. `stack.url`, `stack.token`.

    Its processes log their imports for tests/test_layout.py.
    """
    state = tmp_path_factory.mktemp("stack")
    paths = [str(Path(__file__).parent / "import_log"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        "PYTHONPATH": os.pathsep.join(paths),
        "IMPORT_LOG": str(state.parent / f"{state.name}-imports.log"),
        "UNVEIL_REQUESTS_PER_SECOND": str(UNLIMITED_PER_SECOND),
        "UNVEIL_ANONYMOUS_REQUESTS_PER_SECOND": str(UNLIMITED_PER_SECOND),
        "UNVEIL_ENCRYPT_TIMEOUT_S": "240",  # a machine under load takes longer than the default
    }
    with LocalStack(state, port=0, durable=False, environment=environment) as local_stack:
        yield local_stack

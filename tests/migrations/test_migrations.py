"""All migrations, upgrade and downgrade with rows in the tables, on a real PostgreSQL."""

from __future__ import annotations

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, select
from sqlalchemy.orm import Session, sessionmaker

from tests.factories import make_account, make_evaluation, make_token
from tests.servers import migrate
from unveil.app.db.migrate import alembic_config
from unveil.app.db.tables import Base, Cell, Curve, Key, Sample, Scores
from unveil.app.security.envelope import new_keyring
from unveil.app.settings import Settings


@pytest.fixture
def engine(empty_database_url):
    engine = create_engine(Settings(database_url=empty_database_url).sqlalchemy_url)
    yield engine
    engine.dispose()


def fill_every_table(engine) -> str:
    """Insert rows; return the id of a cell."""
    sessions = sessionmaker(engine, expire_on_commit=False)
    account = make_account(sessions)
    make_token(sessions, new_keyring(), account)
    _, (cell,) = make_evaluation(sessions, account, ("fr",))
    with sessions.begin() as session:
        session.add_all(
            [
                Key(
                    id="key_1",
                    account_id=account,
                    scheme="tanaka",
                    params={},
                    encrypted_secret=b"s",
                    status="succeeded",
                ),
                Sample(cell_id=cell, index=3, ssim=0.5, plain=b"a", protected=b"b", reconstructed=b"c"),
                Scores(cell_id=cell, index=[0, 1], ssim=[0.1, 0.2], psnr=[9.0, 9.5], rank=[1.0, 2.0]),
                Curve(cell_id=cell, name="loss", points=[[1, 0.5]]),
            ]
        )
    return cell


def test_the_migrations_make_what_the_tables_say(engine, empty_database_url):
    migrate(empty_database_url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_down_and_up_again_with_data_in_it(engine, empty_database_url, monkeypatch):
    migrate(empty_database_url)
    cell = fill_every_table(engine)
    with Session(engine) as session:
        assert session.get_one(Cell, cell).attack["name"] == "fr"
        assert session.scalars(select(Scores.rank)).one() == [1.0, 2.0]
    monkeypatch.setenv("UNVEIL_DATABASE_URL", empty_database_url)
    command.downgrade(alembic_config(), "base")
    assert set(inspect(engine).get_table_names()) <= {"alembic_version"}
    migrate(empty_database_url)
    assert fill_every_table(engine) != cell


def test_a_second_run_changes_nothing(engine, empty_database_url):
    migrate(empty_database_url)
    cell = fill_every_table(engine)
    migrate(empty_database_url)
    with Session(engine) as session:
        assert session.get(Cell, cell) is not None

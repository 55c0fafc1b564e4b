"""Postgres and Redis keep what their own clients wrote, and ask for the password."""

from __future__ import annotations

import dataclasses

import pytest

from servers.testbed.databases import Postgres, Redis


def test_postgres_rolls_back_and_commits(postgres: Postgres) -> None:
    postgres.query("create table events (seq bigint primary key, kind text not null)")
    postgres.query("begin; insert into events values (1, 'run.started'); rollback")
    assert postgres.query("select count(*) from events") == "0"
    postgres.query("begin; insert into events values (1, 'run.started'), (2, 'run.ended'); commit")
    assert postgres.query("select seq, kind from events order by seq") == "1|run.started\n2|run.ended"
    with pytest.raises(AssertionError, match="duplicate key"):
        postgres.query("insert into events values (2, 'run.ended')")


def test_postgres_refuses_a_wrong_password(postgres: Postgres) -> None:
    with pytest.raises(AssertionError, match="password authentication failed"):
        dataclasses.replace(postgres, password="guess").query("select 1")


def test_redis_keeps_a_value(redis: Redis) -> None:
    assert redis.command("set", "feature:UA", "3.5") == "OK"
    assert redis.command("get", "feature:UA") == "3.5"
    assert redis.command("del", "feature:UA") == "1"
    assert redis.command("get", "feature:UA") == ""


def test_redis_asks_for_the_password(redis: Redis) -> None:
    stranger = dataclasses.replace(redis, password="guess")
    assert "NOAUTH" in stranger.command("get", "feature:UA")

"""The fixtures of tests/conftest.py give what they promise."""

import psycopg
import pytest
import redis


@pytest.mark.django_db
def test_the_test_database_is_a_postgres_with_pgvector(postgres_url):
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database(), '[3,4]'::vector <-> '[0,0]'::vector")
        name, distance = cursor.fetchone()
    assert name.startswith("test_")
    assert distance == 5
    assert str(connection.settings_dict["PORT"]) in postgres_url


def test_the_broker_comes_back_at_its_address(valkey, redis_url):
    client = redis.Redis.from_url(redis_url)
    client.set("kept", "yes")
    valkey.stop()
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(redis_url, retry=None).ping()
    valkey.start()
    assert redis.Redis.from_url(redis_url).get("kept") == b"yes"


def test_the_server_wants_a_password(servers, postgres_url):
    if servers.postgres is None:
        pytest.skip("the Postgres is the developer's own (DATABASE_URL)")
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres_url.replace(servers.postgres.password, "wrong"))

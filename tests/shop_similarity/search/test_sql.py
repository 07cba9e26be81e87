"""Pieces of SQL and their parameters."""

from __future__ import annotations

import pytest

from shop_similarity.search.sql import Sql


def test_parameters_follow_their_places_and_not_the_order_in_which_they_are_given():
    condition = Sql.of("price < {most} AND name = {name}", name="lamp", most=3)
    statement = Sql.of("SELECT {first} FROM t WHERE {condition} OR {condition}", condition=condition, first=1)
    assert statement == Sql(
        "SELECT %s FROM t WHERE price < %s AND name = %s OR price < %s AND name = %s", (1, 3, "lamp", 3, "lamp")
    )


def test_a_value_never_becomes_a_part_of_the_text():
    assert Sql.of("x = {value}", value="1; DROP TABLE t") == Sql("x = %s", ("1; DROP TABLE t",))
    assert Sql.number(7) == Sql("7")
    with pytest.raises(ValueError, match="invalid literal"):
        Sql.number("7; DROP TABLE t")


def test_joined_pieces():
    assert Sql.join(" OR ", [Sql("a = %s", (1,)), Sql("b"), Sql("c = %s", (2,))]) == Sql(
        "a = %s OR b OR c = %s", (1, 2)
    )
    assert Sql.join(", ", []) == Sql("")


@pytest.mark.django_db
def test_rows_have_the_names_of_the_columns():
    (row,) = Sql.of("SELECT {number}::int AS number, 'x' AS text", number=5).rows()
    assert (row.number, row.text) == (5, "x")

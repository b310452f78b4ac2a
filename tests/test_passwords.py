"""Passwords stay out of what is shown and stored."""

from typing import Any

import pytest

from cifar100_transfer.passwords import hide_passwords


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (
            "postgresql+psycopg://tuner:secret@host:5432/studies",
            "postgresql+psycopg://tuner:***@host:5432/studies",
        ),
        ("postgresql://u:a/b:c d@host/db", "postgresql://u:***@host/db"),
        (
            "postgresql://host/db?user=u&password=secret&x=1",
            "postgresql://host/db?user=u&password=***&x=1",
        ),
        (
            {"studies": ["https://a:secret@host"], "n": 1},
            {"studies": ["https://a:***@host"], "n": 1},
        ),
    ],
)
def test_passwords_are_hidden_wherever_they_stand(value: Any, shown: Any) -> None:
    assert hide_passwords(value) == shown


@pytest.mark.parametrize(
    "value",
    ["postgresql+psycopg://tuner@host/studies", "sqlite:////data/studies.db", "/a:b@c", None, 3],
)
def test_what_holds_no_password_stays_as_it_is(value: Any) -> None:
    assert hide_passwords(value) == value

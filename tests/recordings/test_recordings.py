"""One test for each recorded exchange: the simulator answers as the server did."""

from __future__ import annotations

import pytest

from .replay import FILES, Exchange, exchanges, left_out, results

ALL = [exchange for file in FILES for exchange in exchanges(file)]


@pytest.mark.parametrize("exchange", ALL, ids=lambda exchange: exchange.key)
def test_answers_as_recorded(exchange: Exchange) -> None:
    found = results(exchange.key.split("/")[0])[exchange.key]
    reason = left_out().get(exchange.key)
    if reason is None:
        assert not found, "\n".join(found)
    else:
        assert found, f"agrees now, so it does not belong into left_out.json any more ({reason})"
        pytest.skip(f"left out: {reason}")


def test_left_out_names_exchanges() -> None:
    assert set(left_out()) <= {exchange.key for exchange in ALL}


@pytest.mark.parametrize("file", FILES)
def test_everything_asked_for_is_modelled(file: str) -> None:
    assert f"{file}/unmodelled" not in results(file)


def test_enough_exchanges_agree() -> None:
    agreeing = sum(not results(exchange.key.split("/")[0])[exchange.key] for exchange in ALL)
    assert agreeing >= 330

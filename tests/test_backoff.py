from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch._backoff import jittered_delays, parse_http_date, parse_retry_after, read_retry_after
from aiobatch.interfaces import Response

_POSITIVE = st.floats(1e-6, 1e6)


class TestJitteredDelays:
    """Delays between the attempts of a request."""

    @given(_POSITIVE, _POSITIVE, st.integers())
    def test_delays_stay_below_their_bounds(self, initial: float, maximum: float, seed: int) -> None:
        """Each delay is between 0 and its bound, which doubles from *initial* up to *maximum*."""
        delays = itertools.islice(jittered_delays(initial, maximum, random.Random(seed)), 60)
        for power, delay in enumerate(delays):
            assert 0 <= delay <= min(initial * 2.0**power, maximum)

    def test_jitter_is_full(self) -> None:
        """Delays are spread over the whole of their bounds."""
        delays = list(itertools.islice(jittered_delays(8, 8, random.Random(7)), 2000))
        assert min(delays) < 0.1
        assert max(delays) > 7.9
        assert sum(delays) / len(delays) == pytest.approx(4, rel=0.05)

    def test_seed_replays_the_delays(self) -> None:
        """One seed gives one sequence."""
        runs = [list(itertools.islice(jittered_delays(1, 20, random.Random(3)), 20)) for _ in range(2)]
        assert runs[0] == runs[1]

    def test_delays_never_end(self) -> None:
        """After ten thousand attempts there is still a next delay."""
        assert 0 <= next(itertools.islice(jittered_delays(0.5, 20, random.Random(1)), 10_000, None)) <= 20


NOW = 1_445_412_400.0  # 80 s before the date below
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        (" 1.5 ", 1.5),
        ("\x1c2\x85", 2.0),
        (DATE, 80.0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 80.0),
        ("Wed, 21 Oct 2015 09:28:00 +0200", 80.0),
        ("Wed, 21 Oct 2009 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 +99999999999999999999", None),
        ("", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("1e3", None),
        ("9" * 400, None),
        ("٣", None),
        ("soon", None),
    ],
)
def test_parse_retry_after(value: str | None, seconds: float | None) -> None:
    """Seconds and HTTP dates are read. A past date is 0 seconds, and an unreadable value None."""
    assert parse_retry_after(value, NOW) == seconds


def test_date_needs_the_time() -> None:
    """Without the current time a date is unreadable."""
    assert parse_retry_after(DATE, None) is None
    assert parse_retry_after("3", None) == 3.0


def test_parse_http_date() -> None:
    """A date becomes seconds since the epoch, another text None."""
    assert parse_http_date(DATE) == NOW + 80
    assert parse_http_date(None) is None


WORDS = ["Wed,", "21", "Oct", "2015", "07:28:00", "GMT", "+9999", "-0000", "99", "0", "9" * 20, ",", ":", " "]


@given(st.one_of(st.text(), st.lists(st.sampled_from(WORDS)).map(" ".join)), st.floats(0, 1e12))
def test_any_value_is_readable_or_none(value: str, now: float) -> None:
    """Any value is a finite number of seconds, not negative, or None."""
    seconds = parse_retry_after(value, now)

    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)


@pytest.mark.parametrize("now", [None, NOW, NOW + 86400, NOW - 86400])
def test_date_is_compared_with_the_date_of_the_response(now: float | None) -> None:
    """This machine's clock, which may be wrong, is used only if the response has no date."""
    headers = {"retry-after": DATE, "date": "Wed, 21 Oct 2015 07:27:50 GMT"}
    assert read_retry_after(Response(status=429, headers=headers), now) == 10
    undated = Response(status=429, headers={"retry-after": DATE})
    assert read_retry_after(undated, now) == parse_retry_after(DATE, now)

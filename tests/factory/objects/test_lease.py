"""Who may work on a run in a store: laws of the lease, against a server that speaks S3."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from factory.ledger.lock import AT_ONCE, FOR_EVER
from factory.objects.bucket import Objects
from factory.objects.lease import Lease, Pace
from schemas.errors import Busy
from tests.object_store import BUCKET, ObjectStore

PACE = Pace(every=10, expiry=40)


@dataclass
class Hours:
    """A clock that is moved by whoever sleeps; `beside` is what happens meanwhile."""

    beside: Callable[[], None] = lambda: None
    at: float = 1000.0
    said: list[str] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.at += seconds
        self.beside()

    def lease(self, url: str, me: str) -> Lease:
        return Lease(Objects(url), me, PACE, lambda: self.at, self.sleep)


def test_lease_of_nobody_is_taken_at_once(stored: str) -> None:
    hours = Hours()
    hours.lease(stored, "one").take(AT_ONCE, hours.said.append)
    assert (hours.at, hours.said) == (1000.0, [])


def test_lease_that_was_given_back_is_taken_at_once(stored: str, s3: ObjectStore) -> None:
    hours = Hours()
    first, second = hours.lease(stored, "one"), hours.lease(stored, "two")
    first.take(AT_ONCE, hours.said.append)
    first.release()
    second.take(AT_ONCE, hours.said.append)
    assert (hours.at, second.number) == (1000.0, 2)
    assert s3.names(stored.removeprefix(f"s3://{BUCKET}/")) == [".lease/000002"]


def test_lease_of_a_living_holder_is_refused_as_soon_as_it_is_heard(stored: str) -> None:
    hours = Hours()
    holder = hours.lease(stored, "one")
    holder.take(AT_ONCE, hours.said.append)
    hours.beside = holder.renew
    with pytest.raises(Busy, match=f"^{stored}: process .* works on this run; wait for it"):
        hours.lease(stored, "two").take(AT_ONCE, hours.said.append)
    assert hours.at <= 1000 + PACE.every
    with pytest.raises(Busy):
        hours.lease(stored, "two").take(60.0, hours.said.append)
    assert hours.at >= 1060
    holder.renew()


def test_lease_of_a_dead_holder_is_taken_when_it_stood_still_for_its_time(stored: str) -> None:
    hours = Hours()
    hours.lease(stored, "one").take(AT_ONCE, hours.said.append)
    hours.lease(stored, "two").take(AT_ONCE, hours.said.append)
    assert 1000 + PACE.expiry <= hours.at <= 1000 + PACE.expiry + PACE.every
    assert "looking for 40 s whether it lives" in hours.said[0]


def test_lease_of_an_earlier_life_of_the_same_copy_is_taken_at_once(stored: str) -> None:
    hours = Hours()
    hours.lease(stored, "one").take(AT_ONCE, hours.said.append)
    hours.lease(stored, "one").take(AT_ONCE, hours.said.append)
    assert hours.at == 1000.0


def test_holder_whose_lease_was_taken_learns_it_before_it_says_another_word(stored: str, s3: ObjectStore) -> None:
    hours = Hours()
    first, second = hours.lease(stored, "one"), hours.lease(stored, "two")
    first.take(AT_ONCE, hours.said.append)
    second.take(AT_ONCE, hours.said.append)
    with pytest.raises(Busy, match="another process has taken over this run"):
        first.renew()
    second.renew()
    first.release()
    third = hours.lease(stored, "three")
    hours.beside = second.renew
    with pytest.raises(Busy):
        third.take(AT_ONCE, hours.said.append)


def test_holder_that_slept_asks_before_it_sends(stored: str, s3: ObjectStore) -> None:
    hours = Hours()
    first = hours.lease(stored, "one")
    first.take(AT_ONCE, hours.said.append)
    before = len(s3.asked())
    first.check()
    assert not s3.counted(before)
    hours.at += PACE.expiry
    first.check()
    assert s3.counted(before) == {"LIST": 1, "PUT": 1}
    hours.lease(stored, "two").take(AT_ONCE, hours.said.append)
    with pytest.raises(Busy, match="another process has taken over this run"):
        first.check()


def test_of_two_that_wait_one_gets_the_lease(stored: str) -> None:
    hours = Hours()
    holder, waiter = hours.lease(stored, "one"), hours.lease(stored, "two")
    holder.take(AT_ONCE, hours.said.append)

    def given_back_and_taken() -> None:
        hours.beside = lambda: None
        holder.release()
        hours.lease(stored, "three").take(AT_ONCE, hours.said.append)

    hours.beside = given_back_and_taken
    waiter.take(FOR_EVER, hours.said.append)
    assert waiter.number == 3
    assert hours.at >= 1000 + PACE.expiry

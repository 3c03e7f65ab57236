"""Who owns a backend: each is closed exactly once, in whatever order setups come and go."""

import threading
from typing import Any, cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from inspectd.engine.backend import Backend
from inspectd.runtime.errors import StoppedError
from inspectd.steer.backends import Backends


class Closable:
    """What the owner does with a backend: it closes it, and its hand-off. Nothing is inferred here."""

    def __init__(self) -> None:
        self.closed = self.handoff_closed = 0
        self.completed = self

    def close(self) -> None:
        self.handoff_closed += self.closed  # the second call is the hand-off's
        self.closed = 1


def opened(backends: Backends, number: int) -> Closable:
    made = Closable()
    assert backends.open(number, lambda: cast(Backend, made)) is cast(Any, made)
    return made


def is_closed_once(made: Closable) -> bool:
    return (made.closed, made.handoff_closed) == (1, 1)


def is_open(made: Closable) -> bool:
    return (made.closed, made.handoff_closed) == (0, 0)


def test_a_shared_backend_stays_until_its_last_setup_is_released() -> None:
    backends = Backends()
    made = opened(backends, 1)
    assert backends.share(2, 1) is cast(Any, made)
    backends.release(1)
    assert is_open(made) and backends.setups == {2}
    backends.release(2)
    backends.release(2)
    backends.close()
    assert is_closed_once(made) and backends.setups == set()


def test_a_change_that_is_prepared_while_the_line_stops_leaves_nothing_open() -> None:
    backends = Backends()
    first, late = opened(backends, 1), Closable()
    is_opening, may_go_on = threading.Event(), threading.Event()

    def slowly() -> Backend:
        is_opening.set()
        may_go_on.wait(30)
        return cast(Backend, late)

    errors: list[Exception] = []

    def prepare() -> None:
        try:
            backends.open(2, slowly)
        except StoppedError as error:
            errors.append(error)

    thread = threading.Thread(target=prepare)
    thread.start()
    assert is_opening.wait(30)
    backends.close()
    may_go_on.set()
    thread.join(30)
    assert len(errors) == 1 and is_closed_once(first) and is_closed_once(late)
    with pytest.raises(StoppedError):
        backends.share(3, 1)
    backends.release(2)  # as a change does that is abandoned
    assert is_closed_once(late)


def test_what_fails_to_open_is_used_by_nobody() -> None:
    backends = Backends()

    def fails() -> Backend:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        backends.open(1, fails)
    assert backends.setups == set()


def test_retired_by_a_thread_of_its_own_and_closed_by_two_at_once() -> None:
    for _ in range(50):
        backends = Backends()
        made = opened(backends, 1)
        backends.retire(1)
        backends.close()
        assert is_closed_once(made)


class Owner(RuleBasedStateMachine):
    """Setups come, share, go and are retired in any order; a model knows what must be open."""

    def __init__(self) -> None:
        super().__init__()
        self.backends, self.made = Backends(), list[Closable]()
        self.used: dict[int, Closable] = {}
        self.count, self.is_ended = 0, False

    @rule()
    def open(self) -> None:
        self.count += 1
        made = Closable()
        self.made.append(made)
        if self.is_ended:
            with pytest.raises(StoppedError):
                self.backends.open(self.count, lambda: cast(Backend, made))
        else:
            self.backends.open(self.count, lambda: cast(Backend, made))
            self.used[self.count] = made

    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        if self.used:
            other = data.draw(st.sampled_from(sorted(self.used)))
            self.count += 1
            self.backends.share(self.count, other)
            self.used[self.count] = self.used[other]

    @rule(number=st.integers(0, 12))
    def release(self, number: int) -> None:
        self.backends.release(number)
        self.used.pop(number, None)

    @rule()
    def close(self) -> None:
        self.backends.close()
        self.used.clear()
        self.is_ended = True

    @invariant()
    def what_is_used_is_open_and_all_else_was_closed_once(self) -> None:
        assert self.backends.setups == set(self.used)
        for made in self.made:
            assert is_open(made) if made in self.used.values() else is_closed_once(made)


TestOwner = Owner.TestCase

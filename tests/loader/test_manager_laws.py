"""Whatever is wanted, taken and broken in whatever order: nobody ever holds a closed version, and wishes come true."""

import contextlib

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from loader.servable import ModelSpec, State
from loader.servable_handle import ServableHandle
from loader.status import ServingError
from loader.transition import Transition
from tests.loader.counted import PATIENCE, QUICK, Shelf, states, stored, until

NUMBERS = st.integers(1, 4)
SLOTS = st.integers(0, 2)
"""Where a handle is kept. Whether there was one to take depends on the threads, so no rule may depend on it."""


class Versions(RuleBasedStateMachine):
    """One model whose versions come, break and go, while its versions are held and used."""

    def __init__(self) -> None:
        super().__init__()
        self.shelf = Shelf()
        self.manager = self.shelf.manager(QUICK, transition=self.transition)
        self.fingerprints = dict.fromkeys(range(1, 5), 0)
        self.wanted: set[int] = set()
        self.held: dict[int, ServableHandle] = {}

    transition = Transition.AVAILABILITY_PRESERVING

    @rule(wanted=st.sets(NUMBERS))
    def want(self, wanted: set[int]) -> None:
        self.wanted = wanted
        self.manager.set_aspired("m", [stored(v, str(self.fingerprints[v])) for v in wanted])

    @rule(version=NUMBERS)
    def break_bytes(self, version: int) -> None:
        self.fingerprints[version] += 1
        self.shelf.broken.add((version, str(self.fingerprints[version])))

    @rule(version=NUMBERS)
    def mend_bytes(self, version: int) -> None:
        self.fingerprints[version] += 1

    @rule(slot=SLOTS, version=st.none() | NUMBERS)
    def take(self, slot: int, version: int | None) -> None:
        self.give_back(slot)
        with contextlib.suppress(ServingError):
            handle = self.manager.handle(ModelSpec("m", version))
            assert version in {None, handle.servable.id.version}
            self.held[slot] = handle

    @rule(slot=SLOTS)
    def give_back(self, slot: int) -> None:
        handle = self.held.pop(slot, None)
        if handle is not None:
            handle.release()

    @rule()
    def settle(self) -> None:
        """What is wanted is AVAILABLE or has failed; what is unwanted is over, unless it is held or still needed."""
        if self.held and self.transition is Transition.RESOURCE_PRESERVING:
            return  # what is held may keep what is wanted from loading
        self.manager.set_aspired("m", [stored(v, str(self.fingerprints[v])) for v in self.wanted])
        until(self.manager, lambda: all(self.is_settled(v, state) for v, state in states(self.manager).items()))
        available = {v for v, state in states(self.manager).items() if state == State.AVAILABLE}
        if available:
            with self.manager.handle(ModelSpec("m")) as handle:
                assert handle.servable.id.version == max(available)
        assert {v for v in self.wanted if (v, str(self.fingerprints[v])) not in self.shelf.broken} <= available

    def is_settled(self, version: int, state: State) -> bool:
        if version in self.wanted:
            return state in (State.AVAILABLE, State.END)
        if state == State.AVAILABLE:
            # The last resort while nothing that is wanted could be loaded.
            now = states(self.manager)
            others = {v for v in now if now[v] == State.AVAILABLE and v != version}
            return self.transition is Transition.AVAILABILITY_PRESERVING and bool(self.wanted) and not others
        return state == State.END or any(handle.servable.id.version == version for handle in self.held.values())

    @invariant()
    def nobody_holds_a_closed_version(self) -> None:
        for handle in self.held.values():
            assert handle.servable.model.session.run({}, []) == [handle.servable.id.version]

    def teardown(self) -> None:
        for slot in list(self.held):
            self.give_back(slot)
        assert self.manager.close(PATIENCE)
        assert all(session.closed for session in self.shelf.sessions)


TestVersions = Versions.TestCase
TestVersions.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


class FrugalVersions(Versions):
    """The same, when the old version goes first."""

    transition = Transition.RESOURCE_PRESERVING


TestFrugalVersions = FrugalVersions.TestCase
TestFrugalVersions.settings = TestVersions.settings

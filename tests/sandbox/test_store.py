from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from aiobatch.sandbox._store import (
    PLAIN_MEMBER,
    AcceptedWrite,
    AudienceStore,
    Create,
    Effect,
    Namespace,
    Replace,
    Update,
)

from .conftest import Time

ids = st.lists(st.sampled_from("abcdef"), max_size=4)
effects = st.one_of(
    st.builds(lambda add, remove: Update(add=dict.fromkeys(add, PLAIN_MEMBER), remove=remove), ids, ids),
    st.builds(lambda members: Replace(members=dict.fromkeys(members, PLAIN_MEMBER)), ids),
)


def expected_members(applied: list[Effect]) -> set[str]:
    """Apply effects to a plain set."""
    members: set[str] = set()
    for effect in applied:
        if isinstance(effect, Replace):
            members = set(effect.members)
        elif isinstance(effect, Update):
            members = (members | effect.add.keys()) - set(effect.remove)
    return members


def check(writes: list[AcceptedWrite], sent: list[Effect], members: set[str]) -> None:
    """Check that a prefix of the writes is applied, and that those before its last replace are REPLACED."""
    states = [write.state for write in writes]
    applied = [effect for effect, state in zip(sent, states, strict=True) if state != "IN_PROGRESS"]
    replaces = [place for place, effect in enumerate(applied) if isinstance(effect, Replace)]
    replaced = replaces[-1] if replaces else 0
    pending = len(sent) - len(applied)
    assert (
        states
        == ["REPLACED"] * replaced + ["APPLIED"] * (len(applied) - replaced) + ["IN_PROGRESS"] * pending
    )
    assert members == expected_members(applied)


@given(st.lists(st.tuples(st.floats(0, 3), effects), max_size=20), st.integers())
def test_any_writes_are_applied_in_order(steps: list[tuple[float, Effect]], seed: int) -> None:
    """Whatever the delays, the members are always those of the writes that are not in progress."""
    time, source = Time(), random.Random(seed)
    store = AudienceStore(
        draw_delay=lambda: source.uniform(0, 5), draw_token=lambda: str(source.random()), monotonic=time
    )
    project = Namespace(label="2.x", reports_replaced=True)
    sent: list[Effect] = [Create(id_type="custom_ids", description=None)]
    writes = [store.submit(project, "vip", sent[0])]
    audience = project.audiences["vip"]
    for wait, effect in steps:
        time.now += wait
        store.advance()
        check(writes, sent, set(audience.members))
        writes.append(store.submit(project, "vip", effect))
        sent.append(effect)
    time.now += 5
    store.advance()
    check(writes, sent, set(audience.members))
    assert all(write.effect is None for write in writes)

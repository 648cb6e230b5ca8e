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


def check(operations: list[AcceptedWrite], sent: list[Effect], members: set[str]) -> None:
    """What is applied is a beginning of what was sent, and what came before its last replace is REPLACED."""
    states = [operation.state for operation in operations]
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
def test_any_operations_are_applied_in_order(steps: list[tuple[float, Effect]], seed: int) -> None:
    """Whatever the delays, at any time the members are those of the operations that are not in progress."""
    time, source = Time(), random.Random(seed)
    store = AudienceStore(
        draw_delay=lambda: source.uniform(0, 5), draw_token=lambda: str(source.random()), monotonic=time
    )
    project = Namespace(label="2.x", reports_replaced=True)
    sent: list[Effect] = [Create(id_type="custom_ids", label=None)]
    operations = [store.submit(project, "vip", sent[0])]
    audience = project.audiences["vip"]
    for wait, effect in steps:
        time.now += wait
        store.advance()
        check(operations, sent, set(audience.members))
        operations.append(store.submit(project, "vip", effect))
        sent.append(effect)
    time.now += 5
    store.advance()
    check(operations, sent, set(audience.members))
    assert all(operation.effect is None for operation in operations)

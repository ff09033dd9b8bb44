"""Which rule wins, against the sentence in the manual written out by hand."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from limiter import KeyPolicies, Mode, OnFailure, Rule, keys, resolve

NOW = 1_000_000.0
rules = st.none() | st.builds(
    Rule,
    limit=st.none() | st.integers(0, 5),
    window_seconds=st.none() | st.sampled_from([60, 3600]),
    mode=st.none() | st.sampled_from(list(Mode)),
    active=st.booleans(),
    expires_at=st.none() | st.sampled_from([NOW - 1, NOW, NOW + 1]),
)


@settings(max_examples=500)
@given(rules, rules, rules, rules)
def test_agent_beats_tenant_beats_tier_beats_global(agent, tenant, tier, base) -> None:
    policies = KeyPolicies(base)
    if tier:
        policies.tiers["team"] = tier
    if tenant:
        policies.tenants["acme"] = tenant
    if agent:
        policies.agents["acme/bot"] = agent
    got = resolve(policies, "acme", "bot", "team", NOW)
    ordered = [("agent:acme/bot", agent), ("tenant:acme", tenant), ("tier:team", tier), ("global", base)]
    in_force = [
        (source, rule)
        for source, rule in ordered
        if rule is not None and rule.active and (rule.expires_at is None or rule.expires_at > NOW)
    ]
    source, limit = (in_force[0][0], in_force[0][1].limit) if in_force else ("none", None)
    assert (got.source, got.limit) == (source, limit)
    assert got.subject == ("acme/bot" if source.startswith("agent") else "acme")
    lenders = [rule for _, rule in in_force] + ([base] if base else [])
    assert got.mode == next((r.mode for r in lenders if r.mode), Mode.HARD)
    assert got.window_seconds == next((r.window_seconds for r in lenders if r.window_seconds), 3600)
    assert got.valid_from <= NOW < got.valid_until


def test_zero_is_not_unlimited_and_unlimited_is_not_zero() -> None:
    assert resolve(KeyPolicies(Rule(0)), "a", None, None, NOW).limit == 0
    assert resolve(KeyPolicies(Rule(9), tenants={"a": Rule(None)}), "a", None, None, NOW).limit is None


def test_a_tenant_being_removed_gets_nothing_whatever_the_policies_say() -> None:
    generous = KeyPolicies(Rule(None, mode=Mode.WARN), agents={"acme/bot": Rule(None)}, tenants={"acme": Rule(9)})
    for policies in (generous, KeyPolicies()):
        got = resolve(policies, "acme", "bot", keys.REMOVED, NOW)
        assert (got.limit, got.mode, got.on_failure, got.source) == (0, Mode.HARD, OnFailure.DENY, "removed")
        assert (got.subject, got.valid_from, got.valid_until) == ("acme", 0.0, float("inf"))

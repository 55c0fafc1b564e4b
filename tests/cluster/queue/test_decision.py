from dataclasses import replace

from bedplate.cluster.queue import Facts, Place, Victim, replayed

HERE = (Place(0, (0,)),)
FACTS = Facts(now_s=0.0, milli=1000, length_s=100.0, held_milli=0, guaranteed_milli=2000, ceiling_milli=4000, capacity_milli=8000)


def kind(**changes: object) -> str:
    verdict = replayed("j", replace(FACTS, **changes)).verdict
    return verdict.reason or verdict.kind


def test_each_fact_decides() -> None:
    assert kind() == "devices"
    assert kind(places=HERE) == "start"
    assert kind(places=HERE, held_milli=3500) == "ceiling"
    assert kind(milli=5000) == "impossible" == kind(capacity_milli=500)
    assert kind(places=HERE, quota_head="k", quota_s=50.0) == "project"
    assert kind(places=HERE, quota_head="k", quota_s=100.0) == "start"
    assert kind(later=HERE, later_s=70.0) == "reserve"


def test_a_reservation_is_kept_by_place_or_by_time() -> None:
    held = {"places": HERE, "head": "k"}
    assert kind(**held, head_s=99.0, clear=False) == "reservation"
    assert kind(**held, head_s=100.0, clear=False) == "start"
    assert kind(**held, head_s=99.0, clear=True) == "start"
    assert kind(**held, head_s=1e9, clear=False, length_s=None) == "reservation"


def test_victims_are_stopped_only_where_nothing_is_free() -> None:
    victims = {"victims": (Victim("v", 1000, 3.0),), "freed": HERE}
    assert kind(**victims, places=HERE) == "start"
    verdict = replayed("j", replace(FACTS, **victims)).verdict
    assert (verdict.kind, verdict.victims, verdict.places) == ("preempt", ("v",), HERE)

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from proxy.counting import Distribution
from proxy.observe.families import Declared, Page, counter, histogram


def shown(page: Page) -> dict[str, float]:
    text = page.render()[1].decode()
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if family.name.startswith("mongo_session_proxy_")
    }


def test_all_kinds() -> None:
    page = Page()
    page.number("a", "A.", 1)
    page.total("b_total", "B.", 2)
    page.gauge("c", "C.", ("x", "y"), {("1", "2"): 3, ("1", "3"): 4})
    page.append(counter("d_total", "D.", ("x",), {("1",): 5}))
    assert shown(page) == {
        "mongo_session_proxy_a[]": 1,
        "mongo_session_proxy_b_total[]": 2,
        "mongo_session_proxy_c[('x', '1'), ('y', '2')]": 3,
        "mongo_session_proxy_c[('x', '1'), ('y', '3')]": 4,
        "mongo_session_proxy_d_total[('x', '1')]": 5,
    }


def test_histograms_are_cumulative() -> None:
    distribution = Distribution((0.5, 1.0))
    for value in (0.1, 0.7, 0.8, 9.0):
        distribution.observe(value)
    page = Page([histogram("h", "H.", "x", {"1": distribution})])
    assert shown(page) == {
        "mongo_session_proxy_h_bucket[('le', '0.5'), ('x', '1')]": 1,
        "mongo_session_proxy_h_bucket[('le', '1.0'), ('x', '1')]": 3,
        "mongo_session_proxy_h_bucket[('le', '+Inf'), ('x', '1')]": 4,
        "mongo_session_proxy_h_count[('x', '1')]": 4,
        "mongo_session_proxy_h_sum[('x', '1')]": 10.6,
    }


def test_what_was_made_does_not_change_with_what_goes_on() -> None:
    distribution = Distribution((1.0,))
    page = Page([histogram("h", "H.", "", {"": distribution})])
    distribution.observe(0.5)
    assert shown(page)["mongo_session_proxy_h_count[]"] == 0


def test_what_is_declared_is_shown_as_far_as_it_was_counted() -> None:
    declared = Declared()
    tally = declared.counter("a_total", "A.", "x", start=[("possible",)])
    legs = declared.histograms("b", "B.", (1.0,), "leg", ("there", "back"))
    whole = declared.histogram("c", "C.", (1.0,))
    tally["seen",] += 2
    legs["back"].observe(0.5)
    whole.observe(2.0)
    found = shown(Page(declared.families()))
    assert found["mongo_session_proxy_a_total[('x', 'possible')]"] == 0
    assert found["mongo_session_proxy_a_total[('x', 'seen')]"] == 2
    assert found["mongo_session_proxy_b_count[('leg', 'there')]"] == 0
    assert found["mongo_session_proxy_b_sum[('leg', 'back')]"] == 0.5
    assert found["mongo_session_proxy_c_bucket[('le', '1.0')]"] == 0
    assert found["mongo_session_proxy_c_count[]"] == 1

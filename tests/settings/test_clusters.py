"""Settings of several clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy import cli
from proxy.errors import ConfigError
from proxy.settings.cautions import cautions
from proxy.settings.config import Config, load, plain, restored


def cluster(name: str, port: int = 27018, **tables: Any) -> dict[str, Any]:
    return {"name": name, "listen": {"address": f"127.0.0.1:{port}"}, **tables}


def both(**more: Any) -> Config:
    return load(None, {"cluster": [cluster("shop"), cluster("web", 27028)], **more})


def problems(*clusters: dict[str, Any], **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(None, {"cluster": list(clusters), **more})
    return "\n".join(caught.value.problems)


def test_without_any_there_is_one_without_a_name() -> None:
    config = load(None, {"listen": {"address": "127.0.0.1:5"}})
    assert [(one.name, one.path) for one in config.each()] == [("", "")]
    assert config.each()[0].config is config
    assert config.each()[0].said("x: y") == "x: y"


def test_each_has_its_own_and_what_the_process_has() -> None:
    config = both(limits={"connections": 7})
    shop, web = config.each()
    assert (shop.name, web.name, web.path) == ("shop", "web", "cluster[1].")
    assert [one.config.listen.address for one in (shop, web)] == [
        "127.0.0.1:27018",
        "127.0.0.1:27028",
    ]
    assert {one.config.limits.connections for one in (shop, web)} == {7}
    assert shop.config.cluster == ()


def test_they_survive_the_way_to_another_process() -> None:
    config = both()
    assert restored(plain(config)) == config
    other = config.model_copy(update={"embedded": None, "admin": config.admin})
    assert restored(plain(other)).each()[1].config.listen.address == "127.0.0.1:27028"


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        (cluster("a"), cluster("a", 27028), "two clusters have the same name: a"),
        (cluster("a"), cluster("b"), "clusters a and b have the same listener: 127.0.0.1:27018"),
        (
            {"name": "a", "listen": {"address": "0.0.0.0:27018"}},
            cluster("b"),
            "clusters a and b have the same listener: 0.0.0.0:27018 and 127.0.0.1:27018",
        ),
        (
            {"name": "a", "listen": {"address": "localhost:27018"}},
            cluster("b"),
            "clusters a and b have the same listener",
        ),
        (
            {"name": "a", "listen": {"address": "/run/a.sock"}},
            {"name": "b", "listen": {"address": "/run/a.sock"}},
            "clusters a and b have the same listener: /run/a.sock",
        ),
        (
            cluster("a", 27028),
            cluster(
                "b",
                1,
                upstream={
                    "members": [
                        {"upstream": "db:1", "listen": "127.0.0.1:27028", "advertise": "p:1"}
                    ]
                },
            ),
            "clusters a and b have the same listener: 127.0.0.1:27028",
        ),
    ],
)
def test_two_that_want_the_same_are_refused(
    one: dict[str, Any], other: dict[str, Any], why: str
) -> None:
    assert why in problems(one, other)


def test_free_ports_and_other_addresses_are_not_the_same() -> None:
    load(None, {"cluster": [cluster("a", 0), cluster("b", 0)]})
    load(
        None,
        {
            "cluster": [
                cluster("a"),
                {"name": "b", "listen": {"address": "127.0.0.2:27018"}},
                {"name": "c", "listen": {"address": "/run/a.sock"}},
            ]
        },
    )


@pytest.mark.parametrize("name", ["", " ", "a b", "-a", "a/b", 'a"b', "a\nb", "x" * 65, "é"])
def test_names_are_what_labels_and_files_can_hold(name: str) -> None:
    assert "a cluster's name" in problems(cluster(name))


def test_what_each_has_of_its_own_stands_there_and_nowhere_else() -> None:
    alone = problems(cluster("a"), listen={"address": "127.0.0.1:5"}, policies={})
    assert alone == "[listen] and [policies] and [[cluster]] exclude each other: each has its own"
    assert "[embedded] and [[cluster]]" in problems(cluster("a"), embedded={})


def test_each_is_checked_as_if_it_were_the_only_one() -> None:
    two = {"address": "mongodb://a:1,b:2/?replicaSet=rs"}
    wrong = {"name": "b", "listen": {"address": "/run/b.sock"}, "upstream": two}
    assert "cluster b: listen.address is one unix socket" in problems(cluster("a"), wrong)


def test_what_may_not_be_meant_is_said_of_each() -> None:
    odd = {"kill_guard": {"permission": "killAnySesion"}}
    config = load(None, {"cluster": [cluster("shop"), cluster("web", 27028, policies=odd)]})
    [said] = cautions(config)
    assert said.startswith("cluster[1].policies.kill_guard.permission: ")
    assert config.by_name(said).startswith("cluster web: policies.kill_guard.permission: ")


FILE = """
[[cluster]]
name = "shop"
[cluster.listen]
address = "127.0.0.1:27018"
[[cluster]]
name = "web"
[cluster.listen]
address = "127.0.0.1:27028"
backlog = true
[[cluster.policies.custom]]
rule = "nowhere.at:All"
"""


def test_errors_have_the_line_and_the_name(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text(FILE)
    assert cli.main(["check-config", str(path)]) == 2
    assert f"{path}:10: cluster web: listen.backlog: should be" in capsys.readouterr().err
    path.write_text(FILE.replace("backlog = true", "backlog = 5"))
    assert cli.main(["check-config", str(path)]) == 2
    assert "cluster web: policies.custom" in capsys.readouterr().err

"""Fetching from a hub: pinned, checked, resumed, offline; what every fault is called. Against a hub on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from hubserver import Repo, serving
from regraft.errors import ModelError
from regraft.pretrained import hub as room
from regraft.pretrained.base import Access

pytest.importorskip("huggingface_hub")

BODY = os.urandom(200_000)
NAME = "someone/something"
FREELY = Access()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setattr(room, "WAITS", (0.01, 0.01))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    import huggingface_hub.constants
    import huggingface_hub.file_download

    monkeypatch.setattr(huggingface_hub.file_download.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "shared"))
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        card = {"license": "mit", "datasets": ["one", "two"]}
        hub.repos[NAME] = Repo({"model.safetensors": BODY, "config.json": b'{"a": 1}', "1_Pooling/config.json": b"{}"}, card)
        yield hub


def opened(revision: str = "", may: Access = FREELY) -> room.Repository:
    return room.open_repository(NAME, revision, may)


def test_a_repository_is_pinned_to_its_commit_and_tells_what_its_card_states(hub):
    found = opened()
    assert found.revision == hub.repos[NAME].commit
    assert (found.licence, found.trained_on) == ("mit", "one, two")
    assert found.json("config.json") == {"a": 1}
    assert found.json("absent.json") is None
    assert found.fetch("model.safetensors").read_bytes() == BODY
    assert found.fetch("1_Pooling/config.json").read_bytes() == b"{}"
    assert found.sha256("model.safetensors") == hashlib.sha256(BODY).hexdigest()
    assert f"/resolve/{found.revision}/" in hub.requests[-1]


def test_what_was_fetched_is_not_asked_for_again(hub):
    found = opened()
    found.fetch("model.safetensors")
    before = len(hub.requests)
    again = opened(found.revision)
    assert again.fetch("model.safetensors").read_bytes() == BODY
    assert len(hub.requests) == before


def test_main_is_asked_for_again_and_a_commit_keeps_what_it_was(hub):
    old = opened()
    old.fetch("model.safetensors")
    hub.repos[NAME] = Repo({"model.safetensors": BODY[::-1]})
    new = opened()
    assert new.revision != old.revision
    assert new.fetch("model.safetensors").read_bytes() == BODY[::-1]
    assert opened(old.revision).fetch("model.safetensors").read_bytes() == BODY


@pytest.mark.parametrize("way", ["flag", "environment"])
def test_offline_uses_what_is_here_and_opens_no_connection(hub, way, monkeypatch):
    opened().fetch("model.safetensors")
    if way == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = len(hub.requests)
    held = opened(may=Access(offline=way == "flag"))
    assert held.fetch("model.safetensors").read_bytes() == BODY
    with pytest.raises(ModelError, match=r"config\.json of someone/something .* is not here.*\n.*without --offline"):
        held.fetch("config.json")
    with pytest.raises(ModelError, match="not on this machine"):
        room.open_repository("someone/other", "", Access(offline=True))
    assert len(hub.requests) == before


def test_the_cache_that_others_share_is_used(hub, tmp_path):
    commit = hub.repos[NAME].commit
    folder = tmp_path / "shared" / "models--someone--something"
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit / "config.json").write_bytes(b'{"a": 1}')
    (folder / "snapshots" / commit / "model.safetensors").write_bytes(BODY)
    held = opened(may=Access(offline=True))
    assert held.revision == commit and held.fetch("model.safetensors").read_bytes() == BODY
    assert not hub.requests
    opened().fetch("model.safetensors")
    assert not any("/resolve/" in r for r in hub.requests)
    # and not when it is not what the hub states
    (folder / "snapshots" / commit / "model.safetensors").write_bytes(BODY[:-1] + bytes([BODY[-1] ^ 1]))
    assert opened().fetch("model.safetensors").read_bytes() == BODY
    assert any("/resolve/" in r for r in hub.requests)


@pytest.mark.parametrize(
    ("fault", "words", "move"),
    [
        ("401", "knows no repository someone/something, or it is private", "hf auth login"),
        ("403", "does not let you have", "accept its terms"),
        ("404", "has no repository someone/something", "spelling"),
        ("429", "too many requests", "later"),
        ("500", "could not answer", "later"),
        ("503", "could not answer", "later"),
    ],
)
@pytest.mark.parametrize("where", ["repository", "file"])
def test_each_refusal_is_named_with_the_next_move(hub, fault, words, move, where):
    held = opened() if where == "file" else None
    hub.faults[fault] = 100
    with pytest.raises(ModelError) as caught:
        held.fetch("model.safetensors") if held else opened()
    assert words in caught.value.found and move in caught.value.move
    assert hub.faults[fault] > 90, "it is not asked without bound"


@pytest.mark.parametrize("fault", ["429", "500", "503", "500 body", "429 body", "half"])
def test_a_passing_fault_is_overcome(hub, fault):
    hub.faults[fault] = 1
    assert opened().fetch("model.safetensors").read_bytes() == BODY


def test_a_hub_that_asks_for_too_long_a_pause_is_not_waited_for(hub):
    hub.faults |= {"429": 100, "retry after": 3600}
    start = time.monotonic()
    with pytest.raises(ModelError, match="asks to wait 3,600 s"):
        opened()
    assert time.monotonic() - start < 5 and hub.faults["429"] == 99


def test_an_unknown_revision_and_file_are_named(hub):
    with pytest.raises(ModelError, match=r"has no revision 'v9'"):
        opened("v9")
    with pytest.raises(ModelError, match=r"holds no model\.safetensor .*did you mean 'model\.safetensors'"):
        opened().fetch("model.safetensor")


@pytest.mark.parametrize("name", ["../../etc", "a/b/c", "", "a/..", "a b/c", "http://x/y"])
def test_a_name_that_is_none_is_refused_before_anything_is_asked(hub, name):
    with pytest.raises(ModelError, match="not the name of a repository"):
        room.open_repository(name, "", Access())
    assert not hub.requests


def test_a_slow_hub_is_named(hub, monkeypatch):
    monkeypatch.setattr(room, "ANSWER_SECONDS", 0.2)
    hub.faults["slow"] = 100
    with pytest.raises(ModelError, match="took too long to answer"):
        opened()


def test_a_hub_that_is_not_there_is_named_and_what_is_here_offered(hub, monkeypatch):
    opened()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="cannot be reached") as caught:
        opened()
    assert "--offline" in caught.value.move


def test_something_else_that_answers_is_named(hub):
    hub.faults["not json"] = 100
    with pytest.raises(ModelError, match="cannot be read"):
        opened()


def test_an_interrupted_download_goes_on_where_it_stopped(hub, monkeypatch):
    held, write = opened(), room._Bounded.write

    def killed(self, block):
        write(self, block[:70_000])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(room._Bounded, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            held.fetch("model.safetensors")
    (part,) = held.folder.glob(".model.safetensors.*.part")
    assert part.stat().st_size == 70_000
    assert held.fetch("model.safetensors").read_bytes() == BODY
    assert hub.requests[-1].endswith("bytes=70000-")
    assert not list(held.folder.glob(".model.safetensors.*.part"))


def test_a_hub_that_always_sends_half_and_cannot_go_on_is_given_up(hub):
    hub.faults |= {"half": 10_000, "no range": 1}
    held = opened()
    with pytest.raises(ModelError):
        held.fetch("model.safetensors")
    assert hub.faults["half"] > 9_900
    assert not (held.folder / "model.safetensors").exists()


def test_other_bytes_than_stated_are_not_kept(hub):
    hub.lies["model.safetensors"] = BODY[:-1] + bytes([BODY[-1] ^ 1])
    held = opened()
    with pytest.raises(ModelError, match="other bytes than the hub states"):
        held.fetch("model.safetensors")
    hub.lies["config.json"] = b'{"a": 2}'
    with pytest.raises(ModelError, match="other bytes than the hub states"):
        held.fetch("config.json")
    assert not [p for p in held.folder.rglob("*") if p.suffix != ".lock"]


@pytest.mark.parametrize("lie", [BODY[:-5], BODY + b"more"], ids=["fewer", "more"])
def test_another_size_than_stated_is_refused(hub, lie):
    hub.lies["model.safetensors"] = lie
    with pytest.raises(ModelError):
        opened().fetch("model.safetensors")


def test_a_part_of_other_bytes_is_fetched_anew(hub):
    held = opened()
    held.fetch("config.json")
    tag = hashlib.sha256(BODY).hexdigest()
    name = hashlib.sha256(f"{tag} {len(BODY)}".encode()).hexdigest()[:12]
    (held.folder / f".model.safetensors.{name}.part").write_bytes(b"x" * 1000)
    assert held.fetch("model.safetensors").read_bytes() == BODY


def test_a_file_that_was_changed_on_this_machine_is_noticed_before_it_is_read(hub):
    held = opened()
    path = held.fetch("model.safetensors")
    path.write_bytes(BODY[:-1] + bytes([BODY[-1] ^ 1]))
    with pytest.raises(ModelError, match="changed on this machine"):
        held.check("model.safetensors")
    assert held.check("model.safetensors").read_bytes() == BODY


@pytest.mark.parametrize("name", ["../out.txt", "/etc/passwd", "a/../../out", "a\\..\\b", "C:x"])
def test_a_listed_file_that_would_leave_the_folder_is_refused(hub, name):
    hub.repos[NAME].files[name] = b"x"
    with pytest.raises(ModelError, match="would leave its folder"):
        opened()


def test_a_json_file_beyond_reason_is_not_fetched(hub, monkeypatch):
    monkeypatch.setattr(room, "JSON_LIMIT", 10_000)
    hub.repos[NAME].files["config.json"] = b'{"a": "' + b"x" * 20_000 + b'"}'
    with pytest.raises(ModelError, match="more than the 10,000"):
        opened().json("config.json")
    hub.repos[NAME] = Repo({"config.json": b"{]"})
    with pytest.raises(ModelError, match="not JSON"):
        opened().json("config.json")


def test_a_damaged_record_of_a_revision_is_asked_for_anew(hub, own_home: Path):
    held = opened()
    ref = own_home / "hub" / "someone--something" / "refs" / f"{held.revision}.json"
    assert json.loads(ref.read_text())["commit"] == held.revision
    ref.write_text("{")
    assert opened(held.revision).files == held.files


def test_the_token_does_not_leave_the_hub(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    at_hub = room._request_headers(f"{hub.address}/x", f"{hub.address}/y")
    elsewhere = room._request_headers(f"{hub.address}/x", "https://files.example/y")
    assert any("hf_secret" in v for v in at_hub.values())
    assert not any("hf_secret" in v for v in elsewhere.values())
    with pytest.raises(ModelError, match="from https to http"):
        room._request_headers("https://hub.example/x", "http://files.example/y")


def test_nothing_is_printed(hub, capfd):
    hub.faults["half"] = 1
    opened().fetch("model.safetensors")
    assert capfd.readouterr() == ("", "")

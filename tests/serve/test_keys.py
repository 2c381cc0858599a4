"""Keys: known by a hash alone, followed within a second, and no file makes a server forget them."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import stat
import time
from pathlib import Path
from typing import Any

import openai
import pytest
import requests
from stub_engine import Stub

from pipeline.core.errors import UserError
from serve.access_log import AccessLog
from serve.keys import PREFIX, KeyFile, add_key, read_keys, revoke_key
from serve.metrics import Metrics


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "keys.json"


def test_a_token_is_256_bits_and_only_its_sha256_is_kept(place: Path) -> None:
    tokens = {add_key(place, "ada")[0] for _ in range(20)}
    assert len(tokens) == 20
    told = place.read_text()
    for token in tokens:
        assert token.startswith(PREFIX)
        assert len(token.removeprefix(PREFIX)) == 43
        assert token not in told
        assert hashlib.sha256(token.encode()).hexdigest() in told
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert sorted(p.name for p in place.parent.iterdir()) == ["keys.json", "keys.json.lock"]


def test_a_key_is_found_by_its_whole_token_alone(place: Path) -> None:
    token, key = add_key(place, "ada", rpm=5, models=("demo-l2",))
    ring = KeyFile(place)
    assert ring.find(token.encode()) == key
    for wrong in (b"", token[:-1].encode(), token.encode() + b"\n", token.upper().encode(),
                  b"' OR 1=1 --", b"\xff" * 40, key.sha256.encode()):  # fmt: skip
        assert ring.find(wrong) is None


def test_the_digest_at_rest_is_no_key_and_every_key_is_compared(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = [add_key(place, f"n{number}")[0] for number in range(7)]
    ring, seen = KeyFile(place), []
    compare = hmac.compare_digest

    def counted(one: str, other: str) -> bool:
        seen.append(other)
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counted)
    for token, known in ((tokens[0], True), (tokens[6], True), ("gradus-none", False)):
        seen.clear()
        assert (ring.find(token.encode()) is not None) is known
        assert sorted(seen) == sorted(key.sha256 for key in read_keys(place))


def test_what_is_written_while_a_server_starts_is_seen(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import serve.keys

    token, key = add_key(place, "ada")
    read = serve.keys.read_keys

    def and_revoked(path: Path) -> Any:
        found = read(path)
        monkeypatch.setattr(serve.keys, "read_keys", read)
        revoke_key(place, key.id)
        return found

    monkeypatch.setattr(serve.keys, "read_keys", and_revoked)
    ring = KeyFile(place)
    assert ring.find(token.encode()) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"expires_at": float("nan")}, "expires_at"), ({"rpm": 10**400}, r"keys\.json"),
        ({"rpm": 10**15}, "rpm"), ({"rpm": True}, "rpm"), ({"name": "a\nb"}, "name"),
        ({"expires_at": 1e300}, "expires_at"), ({"sha256": "0" * 63}, "sha256"),
        ({"admin": True}, "admin"),
    ],
)  # fmt: skip
def test_a_key_with_a_value_that_makes_no_sense_is_refused(
    place: Path, change: dict[str, Any], said: str
) -> None:
    add_key(place, "ada")
    tree = json.loads(place.read_text())
    tree["keys"][0].update(change)
    place.write_text(json.dumps(tree))
    with pytest.raises(UserError, match=said) as caught:
        read_keys(place)
    assert "\n" not in str(caught.value)


def test_one_id_has_one_owner(place: Path) -> None:
    add_key(place, "ada")
    tree = json.loads(place.read_text())
    place.write_text(json.dumps({"keys": tree["keys"] * 2}))
    with pytest.raises(UserError, match="stands 2 times"):
        read_keys(place)


def test_a_file_that_others_may_write_is_refused_with_the_remedy(place: Path) -> None:
    token, _ = add_key(place, "ada")
    place.chmod(0o620)
    with pytest.raises(UserError, match="chmod go-w"):
        KeyFile(place)
    # As a cluster mounts secrets: whoever reads it learns no key.
    place.chmod(0o444)
    assert KeyFile(place).find(token.encode()) is not None


def test_a_mended_file_counts_again_and_another_defect_is_told_again(place: Path) -> None:
    token, _ = add_key(place, "ada")
    good = place.read_bytes()
    told: list[str] = []
    ring = KeyFile(place, told.append)
    for bad in (b"{", b"[]"):
        place.write_bytes(bad)
        time.sleep(0.3)
        assert ring.find(token.encode()) is not None
        place.write_bytes(good)
        time.sleep(0.3)
        assert ring.find(token.encode()) is not None
    assert len(told) == 2
    place.write_text('{"keys": []}')
    time.sleep(0.3)
    assert ring.find(token.encode()) is None


def test_an_expired_key_is_none(place: Path) -> None:
    now = 1000.0
    token, _ = add_key(place, "ada", expires_at=1500.0)
    ring = KeyFile(place, clock=lambda: now)
    assert ring.find(token.encode()) is not None
    now = 1500.0
    assert ring.find(token.encode()) is None


def test_revocation_and_new_keys_are_followed_within_a_second(place: Path) -> None:
    token, key = add_key(place, "ada")
    ring = KeyFile(place)
    assert ring.find(token.encode())
    other, _ = add_key(place, "bob")
    revoke_key(place, key.id)
    ends = time.monotonic() + 1.0
    while ring.find(token.encode()) and time.monotonic() < ends:
        time.sleep(0.02)
    assert ring.find(token.encode()) is None
    assert ring.find(other.encode()) is not None
    with pytest.raises(UserError, match="no key"):
        revoke_key(place, key.id)


@pytest.mark.parametrize("text", ["", "{", '{"keys": [{"id": "x"}]}', '{"more": 1}', None])
def test_a_torn_file_leaves_the_keys_of_before_and_is_told_once(
    place: Path, text: str | None
) -> None:
    token, _ = add_key(place, "ada")
    told: list[str] = []
    ring = KeyFile(place, told.append)
    if text is None:
        place.unlink()
    else:
        place.write_text(text)
    for _ in range(3):
        time.sleep(0.3)
        assert ring.find(token.encode()) is not None
    assert len(told) == 1
    assert str(place) in told[0]
    with pytest.raises(UserError, match=r"keys\.json"):
        KeyFile(place)


@pytest.mark.parametrize(
    ("more", "said"),
    [({"rpm": 0}, "--rpm"), ({"tpm": -5}, "--tpm"), ({"concurrency": 0}, "--concurrency")],
)
def test_bounds_that_make_no_sense_are_told(place: Path, more: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        add_key(place, "ada", **more)
    assert not place.exists()


def test_two_that_add_at_once_both_get_in(place: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: add_key(place, f"n{n}"), range(40)))
    assert len(read_keys(place)) == 40
    assert json.loads(place.read_text())["keys"]


ASKED: Any = [{"role": "user", "content": "Hello"}]


def test_the_gateway_asks_for_a_key_and_shows_each_its_own_models(
    gateway: Any, place: Path
) -> None:
    token, key = add_key(place, "ada", models=("demo-l1",))
    running = gateway(keys=KeyFile(place), metrics=Metrics())
    client = running.client(token)
    assert [model.id for model in client.models.list().data] == ["demo-l1"]
    assert client.chat.completions.create(model="demo-l1", messages=ASKED).model == "demo-l1"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="demo-l2", messages=ASKED)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("demo-l2")
    with pytest.raises(openai.AuthenticationError):
        running.client("wrong").models.list()
    for bearer in ("", "Bearer", "Bearer ", "Basic x", "Bearer a\tb", "Bearer " + "x" * 30_000):
        answer = requests.get(
            f"{running.url}/v1/models", headers={"Authorization": bearer}, timeout=5
        )
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    metrics = f"{running.url}/metrics"
    assert requests.get(metrics, timeout=5).status_code == 401
    bearer = {"Authorization": f"Bearer {token}"}
    # They tell of everybody's models.
    assert requests.get(metrics, headers=bearer, timeout=5).status_code == 403
    reads, _ = add_key(place, "prometheus", models=("none",), metrics=True)
    time.sleep(1.0)
    bearer = {"Authorization": f"Bearer {reads}"}
    assert "gradus_requests" in requests.get(metrics, headers=bearer, timeout=5).text
    revoke_key(place, key.id)
    time.sleep(1.0)
    with pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_a_stream_of_a_revoked_key_ends_within_a_second_and_is_counted(
    gateway: Any, place: Path, tmp_path: Path
) -> None:
    token, key = add_key(place, "ada")
    other, _ = add_key(place, "bob")
    log = tmp_path / "access.log"
    stub = Stub(tokens=10_000, chunk_s=0.02)
    running = gateway(stub, keys=KeyFile(place), log=AccessLog(log))
    body = {"model": "demo-l2", "messages": ASKED, "stream": True}
    with contextlib.ExitStack() as stack:
        mine, theirs = (
            stack.enter_context(
                requests.post(
                    f"{running.url}/v1/chat/completions", json=body, stream=True, timeout=10,
                    headers={"Authorization": f"Bearer {each}"},
                )
            )
            for each in (token, other)
        )  # fmt: skip
        chunks = mine.iter_content(None)
        next(chunks)
        revoke_key(place, key.id)
        began = time.monotonic()
        said = b"".join(chunks)
        assert time.monotonic() - began < 1.5
        last = json.loads(said.strip().split(b"\n\n")[-1].removeprefix(b"data: "))
        assert last["error"]["code"] == "invalid_api_key"
        assert b"[DONE]" not in said
        # Nobody else's ends, and the engine's work on it is over.
        until_one = time.monotonic() + 3
        while running.door.in_flight != 1 and time.monotonic() < until_one:
            time.sleep(0.02)
        assert running.door.in_flight == 1
        assert theirs.raw.read(1)
    running.door.log.flush()
    (line,) = [json.loads(each) for each in log.read_text().splitlines() if key.id in each]
    assert line["status"] == 401

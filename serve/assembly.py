"""What a server is made of: its settings, and the parts that they ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.errors import GradusError, UserError
from serve.attached import AttachedEngine, attach, engine_headers, require_same
from serve.bundle import Bundle
from serve.engine import Engine, EngineChoice, choose_engine, head_engines
from serve.supervisor import Supervisor
from serve.telling import tell
from serve.versions import room_for

if TYPE_CHECKING:
    from serve.following import Following
    from serve.gateway.door import Door
    from serve.open_files import Kept
    from serve.releases import Releases


@dataclass(frozen=True)
class Serving:
    """How a bundle is served.

    Attributes:
        engine: ``auto`` is vLLM where it is installed, else transformers.
        host: address to listen on; anything but loopback needs keys.
        port: TCP port; 0 takes a free one.
        api_key: the one key, where there is no file of them.
        keys: file of keys, as `gradus keys` writes it.
        usage_url: database of usage; None: it is not kept.
        access_log: file of JSON lines; None: there is none.
        log_prompts: bodies are logged too, redacted.
        drain_s: what running requests are given after SIGTERM.
        in_flight: requests under way at once.
        engine_urls: engines that run elsewhere, all serving this bundle; none: one is started.
        releases: file of what each name stands for, which is followed; None: names stand for what
            the bundle holds.
    """

    engine: EngineChoice = "auto"
    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    keys: Path | None = None
    usage_url: str | None = None
    access_log: Path | None = None
    log_prompts: bool = False
    drain_s: float = 30.0
    in_flight: int = 256
    engine_urls: tuple[str, ...] = field(default=())
    releases: Path | None = None


def releases_of(bundle: Bundle, told: Serving, echo: Callable[[str], None]) -> Releases | None:
    """The file of releases that is followed, this bundle's versions written into it.

    They wait there: what others serve by the file changes when this server is ready, at the
    earliest; see ``stand_for``.

    Raises:
        UserError: the file is none of releases, or engines run elsewhere.
    """
    if told.releases is None:
        return None
    if told.engine_urls:
        raise UserError(
            "--releases: engines that run elsewhere load nothing while they run; give them a "
            "bundle with the version, and leave --releases out"
        )
    if bundle.ungated:
        echo(f"bundle {bundle.name} is UNGATED: it is served by itself, and no release is followed")
        return None
    from serve.releases import Releases
    from serve.versions import register_all

    releases = Releases(told.releases)
    register_all(releases, bundle, served=False)
    return releases


def stand_for(releases: Releases, bundle: Bundle, echo: Callable[[str], None]) -> None:
    """Names that nobody has promoted stand for this bundle's versions: its parity has held."""
    from serve.versions import register_all

    before = releases.read()
    for name, number in register_all(releases, bundle, served=True).items():
        old, now = before.get(name), releases.read()[name]
        if old is not None and old.live != now.live:
            echo(
                f"{name}: version {number} is live in {releases.path}, and {old.live} was: whoever "
                "follows it changes too; `gradus promote` makes a name wait for promotions"
            )


def followed(
    bundle: Bundle,
    engines: Sequence[Engine],
    releases: Releases | None,
    echo: Callable[[str], None],
) -> Releases | None:
    """The file where these engines can follow it; said where they cannot.

    Raises:
        UserError: they cannot, and a name stands for another version than the bundle's.
    """
    if releases is None or engines[0].name == "vllm":
        return releases
    from serve.versions import is_version

    known = releases.read()
    for about in bundle.adapters:
        if (release := known.get(about.name)) is None or not release.pinned:
            continue
        own = [v.number for v in release.versions.values() if is_version(v, bundle, about)]
        if release.live not in own:
            raise UserError(
                f"{about.name}: version {release.live} is live, and {engines[0].name} serves this "
                "bundle's own alone: install vLLM (`gradus engine install`), or make that live "
                f"with `gradus promote {about.name} {own[0] if own else 'VERSION'}`"
            )
    echo(
        f"releases are not followed: {engines[0].name} loads nothing while it runs; "
        "promotions and trials need vLLM (`gradus engine install`)"
    )
    return None


def following_of(
    bundle: Bundle,
    engines: Sequence[Engine],
    releases: Releases | None,
    door: Door,
    supervisor: Supervisor,
) -> Following | None:
    """What keeps the door's names as the file says; takes the door's directory over.

    An engine that was started again is compared by every version that it holds.
    """
    from serve.gateway.directory import Table
    from serve.vllm_engine import VllmEngine

    if releases is None:
        return None
    from serve.following import Following

    assert isinstance(door.directory, Table)
    able = [engine for engine in engines if isinstance(engine, VllmEngine)]
    following = Following(
        releases, bundle, able, door.directory, tell,
        counts=supervisor.counts, metrics=door.metrics,
    )  # fmt: skip
    door.directory = following.shelf
    checked = supervisor.checked

    def check(engine: Engine) -> None:
        checked(engine)
        following.compare_again(engine)

    supervisor.checked = check
    return following


def engines_of(bundle: Bundle, told: Serving, releases: Releases | None) -> list[Engine]:
    """Engines of our own, not yet started, or those that run elsewhere; a writer first."""
    if told.engine_urls:
        found = attach(bundle, told.engine_urls, tell)
        return [*sorted(found, key=lambda engine: (engine.pooling is not None, engine.away))]
    room, rank = room_for(releases, bundle)
    main = choose_engine(bundle, told.engine, room=room, rank=rank)
    return [main, *head_engines(bundle, main, room=room, rank=rank)]


def _compared(bundle: Bundle, engine: AttachedEngine) -> bool:
    """Whether an engine elsewhere that answers again serves this bundle; what differs is told."""
    from serve.parity_again import checked_again

    try:
        require_same(bundle, engine)
        checked_again(bundle, tell)(replace(engine, away=False))
    except GradusError as error:
        tell(f"{engine.base_url} is not asked: {error}")
        return False
    return True


def door_of(
    bundle: Bundle,
    engines: Sequence[Engine],
    told: Serving,
    supervisor: Supervisor,
    kept: Kept,
) -> Door:
    """The gateway before engines that run.

    Args:
        kept: its keys, limits, usage, log and counters, opened before the engines were started.
    """
    from serve.gateway.directory import table_of
    from serve.gateway.door import Door, DoorLimits
    from serve.gateway.upstreams import Upstream, UpstreamGroup
    from serve.parity_again import checked_again

    headers = engine_headers() if told.engine_urls else {}
    members: dict[str, list[Upstream]] = {}
    for engine in engines:
        way = getattr(engine, "pooling", None) or ""
        alone = engine.name == "vllm" and bool(bundle.adapters)
        counts = partial(supervisor.counts, engine)
        upstream = Upstream(engine.base_url, counts, dict(headers), scores_alone=alone)
        if isinstance(engine, AttachedEngine):
            upstream.well = not engine.away
            upstream.compared = partial(_compared, bundle, engine)
        members.setdefault(way, []).append(upstream)
    group = UpstreamGroup(members.pop(""))
    groups = {way: UpstreamGroup(replicas) for way, replicas in members.items()}
    supervisor.restarted = kept["metrics"].engine_restarts
    supervisor.checked = checked_again(bundle, tell)
    return Door(
        directory=table_of(bundle, engines[0], group, groups),
        limits=DoorLimits(in_flight=told.in_flight),
        healthy=supervisor.alive,
        **kept,
    )

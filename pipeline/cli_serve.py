"""`gradus serve` and `gradus engine`: a family behind its gateway, and what runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from pipeline.cli_options import json_option, recipe_argument, reported, set_option
from pipeline.cli_releases import releases_file
from pipeline.core.errors import UserError

if TYPE_CHECKING:
    from serve.engine import EngineChoice


@click.command()
@recipe_argument
@set_option
@click.option("--engine", type=click.Choice(["auto", "vllm", "transformers"]), default="auto")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--api-key",
    envvar="GRADUS_API_KEY",
    help="One key, or --keys; needed on any host but loopback.",
)
@click.option("--engine-url", "engine_urls", multiple=True, metavar="URL",
              help="An engine that runs elsewhere; several: replicas.")  # fmt: skip
@click.option("--keys", type=click.Path(dir_okay=False, path_type=Path),
              help="File of keys, as `gradus keys` writes it.")  # fmt: skip
@click.option("--usage-db", "usage_url", envvar="GRADUS_USAGE_URL", metavar="URL|none",
              help="Database of usage; by default usage.db in the store (SQLite).")  # fmt: skip
@click.option("--access-log", type=click.Path(dir_okay=False, path_type=Path),
              help="A file of one JSON line for each request; - is stderr.")  # fmt: skip
@click.option("--log-prompts", is_flag=True, help="Log what was said too, redacted.")
@click.option("--drain-seconds", default=30.0, show_default=True, type=click.FloatRange(0),
              help="For requests under way, after SIGTERM.")  # fmt: skip
@click.option("--max-in-flight", default=256, show_default=True, type=click.IntRange(1),
              help="Requests at once; more are told to come again.")  # fmt: skip
@click.option("--releases", type=click.Path(dir_okay=False, path_type=Path),
              help="What names stand for; of a recipe: releases.json in the store.")  # fmt: skip
@click.option("--ungated", is_flag=True, help="Serve although gates do not pass; recorded.")
@click.option("--print", "printed", is_flag=True, help="Start nothing: print commands to paste.")
@reported
def serve(
    recipe: Path,
    overrides: tuple[str, ...],
    engine: EngineChoice,
    host: str,
    port: int,
    api_key: str | None,
    engine_urls: tuple[str, ...],
    keys: Path | None,
    usage_url: str | None,
    access_log: Path | None,
    log_prompts: bool,
    drain_seconds: float,
    max_in_flight: int,
    releases: Path | None,
    ungated: bool,
    printed: bool,
) -> int:
    """Start an engine and the gateway for a recipe's family, or for a bundle's folder."""
    from pipeline.cli_usage import usage_place
    from serve.assembly import Serving
    from serve.run import require_door
    from serve.run import serve as serve_bundle

    if log_prompts and access_log is None:
        raise UserError("--log-prompts: there is no log to write to; give --access-log FILE")
    settings = Serving(
        engine, host, port, _one_key(api_key, keys), keys,
        usage_url, access_log, log_prompts, drain_seconds, max_in_flight, engine_urls, releases,
    )  # fmt: skip
    if not printed:
        # Before a recipe's hours.
        require_door(settings)
    bundle = _bundle(recipe, overrides, ungated=ungated, make=not printed)
    if not printed:
        settings = replace(settings, usage_url=usage_place(usage_url))
    if releases is None and bundle != recipe and not engine_urls:
        settings = replace(settings, releases=releases_file())
    if printed:
        from serve.printing import print_serving

        return print_serving(bundle, settings, click.echo)
    return serve_bundle(bundle, settings, click.echo)


def _one_key(api_key: str | None, keys: Path | None) -> str | None:
    """The one key that is used: none beside a file of keys, and never in silence.

    An operator's environment may hold a key for other verbs; two options are a contradiction.

    Raises:
        UserError: both are options.
    """
    from serve.open_files import BOTH

    if api_key is None or keys is None:
        return api_key
    source = click.get_current_context().get_parameter_source("api_key")
    if source is not ParameterSource.ENVIRONMENT:
        raise UserError(BOTH)
    click.echo("GRADUS_API_KEY is not used: --keys says who may ask", err=True)
    return None


def _bundle(place: Path, overrides: tuple[str, ...], *, ungated: bool, make: bool) -> Path:
    """The folder to serve: the given one, or the one that a recipe makes."""
    if not (place / "bundle.json").is_file():
        from pipeline.conduct import bundle_of

        _require_no_model(place)
        return bundle_of(place, overrides, ungated=ungated, make=make)
    if overrides or ungated:
        option = "--set" if overrides else "--ungated"
        raise UserError(f"{option}: {place} is made already; name its recipe to change it")
    return place


def _require_no_model(place: Path) -> None:
    """A name of the store is what others verbs take: it is no file here."""
    from pipeline.core.store import Store

    entry = None if place.exists() else Store().model(str(place))
    if entry is not None:
        raise UserError(
            f"{place}: is a model of the store; a family is served by its recipe: "
            f"gradus serve {entry['recipe']}"
        )


@click.group()
def engine() -> None:
    """The inference engine's own environment."""


@engine.command()
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default=None)
@json_option
@reported
def install(device: str | None, as_json: bool) -> None:
    """Build or find vLLM in an environment of its own, from its lock file."""
    from pipeline.core.gpus import gpu_count
    from serve.engine_install import install_engine

    chosen = device or ("cuda" if gpu_count() else "cpu")
    echo: Callable[[str], None] = (lambda _text: None) if as_json else click.echo
    home = install_engine("cuda" if chosen == "cuda" else "cpu", echo=echo)
    if as_json:
        click.echo(json.dumps({"device": chosen, "home": str(home)}))


@engine.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8001, show_default=True, type=click.IntRange(1, 65535))
@click.option("--pooling", type=click.Choice(["last", "mean", "cls"]), help="Read for the heads.")
@click.option("--drain-seconds", default=30, show_default=True, type=click.IntRange(0),
              help="For requests under way, after SIGTERM.")  # fmt: skip
@reported
def start(bundle: Path, host: str, port: int, pooling: str | None, drain_seconds: int) -> None:
    """Run vLLM for a bundle's folder, without a gateway: what an engine's container does."""
    from serve.engine_alone import become_engine

    become_engine(bundle, host=host, port=port, pooling=pooling, drain_s=drain_seconds)

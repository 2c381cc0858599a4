"""The command line. Imports nothing heavy until a verb needs it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli_eval import compare, evaluate
from pipeline.cli_keys import keys as keys_group
from pipeline.cli_options import (
    CONTEXT,
    FORMATS,
    json_option,
    locked_option,
    recipe_argument,
    reported,
    set_option,
)
from pipeline.cli_usage import usage
from pipeline.core.errors import UserError

if TYPE_CHECKING:
    from serve.engine import EngineChoice


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="gradus", prog_name="gradus")
def main() -> None:
    """Take a base model from L0 to L1 to L2, prove each step, serve the family."""


@main.command()
@recipe_argument
@set_option
@locked_option
@click.option("--gpu", metavar="NAME", help="Price for this GPU, e.g. rtx4090, l4, a100-80, h100.")
@click.option("--memory", type=float, metavar="GB", help="In the place of the device's own.")
@click.option("--price-per-hour", type=float, help="Of one device.")
@click.option(
    "--mfu",
    type=float,
    default=0.4,
    show_default=True,
    help="Share of the device's rate that training reaches.",
)
@click.option("--no-price", is_flag=True, help="The stages alone, at once.")
@json_option
@reported
def plan(
    recipe: Path,
    overrides: tuple[str, ...],
    locked: bool,
    gpu: str | None,
    memory: float | None,
    price_per_hour: float | None,
    mfu: float,
    no_price: bool,
    as_json: bool,
) -> None:
    """Print each stage: will it hit, run, or cannot it run; then what its trainings need."""
    from pipeline.core.store import Store
    from pipeline.display import plan_json, print_plan
    from pipeline.ladder import make_plan
    from pipeline.sweep_check import require_sweep

    store = Store()
    made = make_plan(recipe, store, overrides, locked=locked)
    require_sweep(made, store, overrides, locked=locked)
    terms = None
    if not no_price:
        from pipeline.price import price
        from pipeline.price_terms import Terms
        from pipeline.price_view import print_price

        terms = Terms.of(gpu, memory, mfu, price_per_hour)
    if as_json:
        priced = price(made, store, terms) if terms is not None else None
        click.echo(json.dumps({**plan_json(made, store), "price": priced}))
        return
    print_plan(made, store)
    if terms is not None:
        # The price takes seconds: what is known is shown before.
        sys.stdout.flush()
        print_price(price(made, store, terms))


@main.command()
@recipe_argument
@set_option
@locked_option
@click.option("--jobs", type=click.IntRange(1), help="Stages side by side; they share the cores.")
@json_option
@reported
def run(
    recipe: Path, overrides: tuple[str, ...], locked: bool, jobs: int | None, as_json: bool
) -> int:
    """Make what the recipe names, and all that it stands on."""
    from pipeline.conduct import run_recipe

    return run_recipe(recipe, overrides, locked=locked, jobs=jobs, as_json=as_json)


@main.command()
@recipe_argument
@set_option
@click.option(
    "--space",
    "spaces",
    multiple=True,
    metavar="KEY=KIND:...",
    help="What to try: KEY=log:LOW:HIGH, uniform:LOW:HIGH, int:LOW:HIGH or choice:A,B,C.",
)
@click.option("--trials", type=click.IntRange(1), help="For each compared arm; default 20.")
@locked_option
@click.option("--jobs", type=click.IntRange(1), help="Trials side by side; they share the cores.")
@json_option
@reported
def sweep(
    recipe: Path,
    overrides: tuple[str, ...],
    spaces: tuple[str, ...],
    trials: int | None,
    locked: bool,
    jobs: int | None,
    as_json: bool,
) -> int:
    """Try settings out on validation; the test is never read."""
    from pipeline.sweep import sweep_recipe

    return sweep_recipe(
        recipe, overrides, spaces=spaces, trials=trials, locked=locked, jobs=jobs, as_json=as_json
    )


@main.command()
@click.argument("target", type=click.Path(path_type=Path))
@set_option
@click.option("--format", "form", type=click.Choice(FORMATS), help="Of a file's rows; else found.")
@click.option("--show", type=click.IntRange(0), default=0, help="Print so many rendered rows.")
@click.option("--jobs", type=click.IntRange(1), help="Stages side by side; they share the cores.")
@json_option
@reported
def data(
    target: Path,
    overrides: tuple[str, ...],
    form: str | None,
    show: int,
    jobs: int | None,
    as_json: bool,
) -> int:
    """Prepare the rows of a recipe and print their funnel; or look at a file of rows."""
    from pipeline.data_look import look

    return look(target, overrides, form=form, show=show, jobs=jobs, as_json=as_json)


@main.command()
@json_option
@reported
def models(as_json: bool) -> None:
    """List the named models of the store."""
    from pipeline.core.store import Store
    from pipeline.display import print_models

    found = Store().models()
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_models(found)


@main.command()
@click.argument("model")
@json_option
@reported
def lineage(model: str, as_json: bool) -> None:
    """Follow a model down to its L0 and to every source of its rows."""
    from pipeline.core.store import Store
    from pipeline.lineage import lineage_of, print_lineage

    tree = lineage_of(Store(), model)
    if as_json:
        click.echo(json.dumps(tree))
    else:
        print_lineage(tree)


@main.command()
@json_option
@reported
def verify(as_json: bool) -> int:
    """Recompute the digest of every artifact; name each file that changed."""
    from pipeline.core.store import Store
    from pipeline.lineage import verify_store

    checked, problems = verify_store(Store())
    if as_json:
        click.echo(json.dumps({"artifacts": checked, "problems": problems}))
    else:
        for problem in problems:
            click.echo(problem, err=True)
        click.echo(f"{checked} artifacts, {len(problems)} problems")
    return 1 if problems else 0


@main.command()
@click.option("--json", "as_json", is_flag=True, hidden=True)
@reported
def schema(as_json: bool) -> None:
    """Print the JSON Schema of a recipe, for editors."""
    from pipeline.core.schema import recipe_schema

    click.echo(json.dumps(recipe_schema(), indent=2))


@main.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="A file of rows.")
@click.option("--base", required=True, help="A recipe, a hub id, or a model folder.")
@click.option("--out", type=click.Path(path_type=Path), help="Default: NAME.yaml here.")
@json_option
@reported
def init(data: Path, base: str, out: Path | None, as_json: bool) -> None:
    """Look at data and write a first recipe with comments; it runs."""
    from pipeline.first_recipe import write_first_recipe

    written = write_first_recipe(data, base, out, lambda line: click.echo(line, err=True))
    click.echo(json.dumps({"recipe": str(written)}) if as_json else f"gradus run {written}")


@main.command()
@recipe_argument
@set_option
@click.option("--engine", type=click.Choice(["auto", "vllm", "transformers"]), default="auto")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--api-key", envvar="GRADUS_API_KEY", help="One key; needed on any host but loopback."
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
    ungated: bool,
    printed: bool,
) -> int:
    """Start an engine and the gateway for a recipe's family, or for a bundle's folder."""
    bundle = _bundle(recipe, overrides, ungated=ungated, make=not printed)
    from pipeline.cli_usage import usage_place
    from serve.run import Serving

    if log_prompts and access_log is None:
        raise UserError("--log-prompts: there is no log to write to; give --access-log FILE")
    settings = Serving(
        engine, host, port, api_key, keys, usage_url if printed else usage_place(usage_url),
        access_log, log_prompts, drain_seconds, max_in_flight, engine_urls,
    )  # fmt: skip
    if printed:
        from serve.printing import print_serving

        return print_serving(bundle, settings, click.echo)
    from serve.run import serve as serve_bundle

    return serve_bundle(bundle, settings, click.echo)


def _bundle(place: Path, overrides: tuple[str, ...], *, ungated: bool, make: bool) -> Path:
    """The folder to serve: the given one, or the one that a recipe makes."""
    if not (place / "bundle.json").is_file():
        from pipeline.conduct import bundle_of

        return bundle_of(place, overrides, ungated=ungated, make=make)
    if overrides or ungated:
        option = "--set" if overrides else "--ungated"
        raise UserError(f"{option}: {place} is made already; name its recipe to change it")
    return place


@main.group()
def audit() -> None:
    """What a model keeps of the rows that it was trained on."""


@audit.command()
@recipe_argument
@set_option
@click.option("--canaries", "each", type=click.IntRange(1), default=4, show_default=True,
              help="Of each number of repeats: 0, 1, 10, 100.")  # fmt: skip
@click.option("--reference", type=click.IntRange(100), default=1000, show_default=True,
              help="Contents that each canary is ranked among.")  # fmt: skip
@click.option("--items", type=click.IntRange(10), default=1000, show_default=True,
              help="Training and test rows for membership inference.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="A JSON file of the findings too.")
@click.option("--jobs", type=click.IntRange(1), help="Stages side by side; they share the cores.")
@json_option
@reported
def privacy(
    recipe: Path,
    overrides: tuple[str, ...],
    jobs: int | None,
    out: Path | None,
    as_json: bool,
    **settings: int,
) -> int:
    """Train a throwaway copy with canaries and measure what it gives away."""
    from pipeline.audit_verb import audit_privacy

    return audit_privacy(recipe, overrides, settings=settings, jobs=jobs, out=out, as_json=as_json)


main.add_command(evaluate)
main.add_command(compare)
for verb in (keys_group, usage):
    main.add_command(verb)


@main.group()
def engine() -> None:
    """The inference engine's own environment."""


@engine.command()
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default=None)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
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
    """Become vLLM for a bundle's folder, without a gateway: what an engine's container runs."""
    from serve.engine_alone import become_engine

    become_engine(bundle, host=host, port=port, pooling=pooling, drain_s=drain_seconds)


if __name__ == "__main__":
    main()

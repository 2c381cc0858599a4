"""The command line. Imports nothing heavy until a verb needs it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from pipeline.cli_eval import compare, evaluate
from pipeline.cli_export import export, push
from pipeline.cli_keys import keys as keys_group
from pipeline.cli_options import (
    CONTEXT,
    FORMATS,
    Verbs,
    json_option,
    locked_option,
    recipe_argument,
    reported,
    require_place,
    set_option,
)
from pipeline.cli_releases import promote, releases_of, rollback
from pipeline.cli_serve import engine, serve
from pipeline.cli_usage import usage


@click.group(cls=Verbs, context_settings=CONTEXT)
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
@click.argument("folders", nargs=-1, metavar="[FOLDER]...", type=click.Path(path_type=Path))
@json_option
@reported
def verify(folders: tuple[Path, ...], as_json: bool) -> int:
    """Recompute the digest of every artifact, or of those in FOLDERs; name each changed file."""
    from pipeline.verifying import verify_folders, verify_store

    return verify_folders(folders, as_json=as_json) if folders else verify_store(as_json=as_json)


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

    require_place(Path(base))
    written = write_first_recipe(data, base, out, lambda line: click.echo(line, err=True))
    click.echo(json.dumps({"recipe": str(written)}) if as_json else f"gradus run {written}")


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
for verb in (serve, engine, keys_group, usage, promote, rollback, releases_of, export, push):
    main.add_command(verb)


if __name__ == "__main__":
    main()

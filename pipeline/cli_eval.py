"""The verbs that judge: `gradus eval` and `gradus compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.cli_options import FORMATS, json_option, reported, require_place, set_option


def _names(_context: Any, _option: Any, value: tuple[str, ...]) -> tuple[str, ...]:
    """``--arms a,b --arms c`` as (a, b, c), each once."""
    found = [name.strip() for text in value for name in text.split(",") if name.strip()]
    return tuple(dict.fromkeys(found))


@click.command("eval")
@click.argument("target", metavar="MODEL|RECIPE|URL")
@click.option(
    "--arms", multiple=True, metavar="ARM,...", callback=_names, help="Ways of asking; else all."
)
@click.option("--suite", metavar="NAME", help="One suite of the recipe; else all.")
@click.option("--data", type=click.Path(path_type=Path), help="A file of rows to ask instead.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="Of --data; else found.")
@click.option("--labels", type=click.Path(path_type=Path), help="A label a line: all there are.")
@click.option("--limit", type=click.IntRange(1), help="At most so many items of each suite, drawn.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder; else one in the store.")
@click.option("--recipe", type=click.Path(path_type=Path), help="URL: whose suites are asked.")
@click.option("--prompt", help="URL and --data: the user's turn, with {field} placeholders.")
@click.option("--system", help="URL and --data: the system text.")
@click.option("--model", help="URL: which of its models; else its only one.")
@click.option("--api-key", envvar="GRADUS_API_KEY", help="URL: sent as bearer; kept nowhere.")
@click.option("--concurrency", type=click.IntRange(1), default=16, help="URL: requests at once.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0.1), default=120.0, help="URL: s.")
@click.option(
    "--retries",
    type=click.IntRange(0),
    help="URL: tries after the first; else 5, and 2 where no connection ever stood.",
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    help="URL: of a free answer; else the recipe's, or 24.",
)
@click.option(
    "--earlier",
    type=click.Choice(("check", "keep", "drop")),
    default="check",
    help="URL: answers of a killed run: 20 (one of scores) are asked again to see that they still "
    "hold; taken as they are; asked anew.",
)
@click.option(
    "--harness",
    multiple=True,
    metavar="TASK,...",
    callback=_names,
    help="Tasks of lm-evaluation-harness, or suites of the model's recipe, by its code; a run that "
    "was killed goes on.",
)
@set_option
@click.option("--jobs", type=click.IntRange(1), help="Stages side by side; they share the cores.")
@json_option
@reported
def evaluate(target: str, as_json: bool, **wishes: Any) -> int:
    """Judge a model of the store, what a recipe makes, or a served model.

    What was answered is kept until all is: run again to go on after a kill. A served model that
    was asked to the end is asked anew.
    """
    from pipeline.eval_plan import Wishes
    from pipeline.eval_verb import evaluate as run

    return run(target, Wishes(**wishes), as_json=as_json)


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--suite", metavar="NAME", help="One suite; else all that both have.")
@json_option
@reported
def compare(a: str, b: str, suite: str | None, as_json: bool) -> int:
    """Lay two models side by side on the same items.

    A and B are models of the store or folders of `gradus eval`; NAME@ARM takes one way of
    asking.
    """
    from pipeline.compare_verb import compare as run

    for target in (a, b):
        require_place(Path(target))
    return run(a, b, suite=suite, as_json=as_json)

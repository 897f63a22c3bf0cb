"""The `toolkit` command."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated

import typer

import toolkit
from toolkit import export, replay, validate
from toolkit.config import as_yaml, load
from toolkit.errors import MissingExtra, ToolkitError
from toolkit.options import LogDir, Overrides, TensorBoard, Wandb, WandbProject, all_overrides

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command("validate")(validate.command)
app.command("export")(export.command)
app.command("replay")(replay.command)


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    """Observability for GRPO fine-tuning."""
    if version:
        typer.echo(toolkit.__version__)
        raise typer.Exit


@app.command()
def demo(
    overrides: Overrides = None,
    steps: Annotated[int, typer.Option(min=1, help="GRPO steps.")] = 80,
    warmup: Annotated[int, typer.Option(min=1, help="Supervised steps before: with few the policy is weak.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same run.")] = 0,
    config: Annotated[str, typer.Option(help="A preset's name or a YAML file.")] = "demo",
    log_dir: LogDir = None,
    wandb: Wandb = None,
    wandb_project: WandbProject = None,
    tensorboard: TensorBoard = None,
) -> None:
    """Fine-tune a tiny policy with GRPO on the CPU, observed from end to end: a minute or two."""
    # The demo is small enough for a CPU, and must take no accelerator from whoever works beside it.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    try:
        settings = load(config, all_overrides(wandb, wandb_project, tensorboard, overrides))
        run = _demo()
        code = run(settings, steps, warmup, seed, log_dir)
    except ToolkitError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(code)


@app.command("config")
def show(
    source: Annotated[str, typer.Argument(help="A preset's name or a YAML file.")] = "grpo",
    overrides: Overrides = None,
) -> None:
    """Print the configuration as it would be used, or say what is wrong with it."""
    try:
        typer.echo(as_yaml(load(source, overrides or [])), nl=False)
    except ToolkitError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


def _demo() -> Callable[..., int]:
    try:
        from toolkit.demo.run import run
    except ModuleNotFoundError as error:
        if error.name not in {"flax", "optax"}:
            raise
        raise MissingExtra(f"the demo needs {error.name}", "demo") from None
    return run


if __name__ == "__main__":
    app(prog_name="toolkit")

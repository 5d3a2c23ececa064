"""The commands and their options. Owns what they are called and mean; every decision is the library's.

Importing this loads the option parser and nothing else, so that `--help` answers at once.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dragoman import __version__
from dragoman.interruption import explained

if TYPE_CHECKING:
    from dragoman.console import Console

app = typer.Typer(
    name="dragoman",
    help="Reads a model written in any framework and hands it over in another form, with proof that nothing was lost.",
    epilog="Exit codes: 0 done, 2 usage, 3 unsupported, 4 not equivalent, 5 refused as unsafe, 6 malformed, "
    "7 over budget, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

NOT_EQUIVALENT = 4
UNSUPPORTED = 3
_VERIFY_SECONDS = 120.0
SOURCE_HELP = "A .pt2 file, a model folder, or package.module:factory (returns a model or (model, args))."


def _at_least_zero(value: float | None) -> float | None:
    if value is not None and not value >= 0:
        raise typer.BadParameter("a number of seconds is 0 or more")
    return value


Source = Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE_HELP)]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="NAME:DTYPE[DIMS]", help="Such as x:f32[batch,3,224,224]; names are dynamic."),
]
BUDGET_HELP = "Time that verification may take. By default 120, and for convert three times what reading took."
Budget = Annotated[float | None, typer.Option("--budget", metavar="SECONDS", callback=_at_least_zero, help=BUDGET_HELP)]
Trust = Annotated[bool, typer.Option("--trust", help="Allow SOURCE to execute code while it is loaded (.pt2 files).")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the warnings of libraries.")]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"dragoman {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of every command."""


@app.command()
def convert(
    source: Source,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="The file to write, or for triton the folder.")
    ],
    to: Annotated[str, typer.Option("--to", help="The form to hand over: onnx or triton.")] = "onnx",
    inputs: Inputs = None,
    opset: Annotated[int | None, typer.Option("--opset", help="The ONNX opset, 13 or newer.")] = None,
    target: Annotated[
        str, typer.Option("--for", help="portable: only ai.onnx operators; ort: those of ONNX Runtime too.")
    ] = "portable",
    precision: Annotated[
        str | None,
        typer.Option("--precision", help="f16 or bf16: half precision where it is measured to be good enough."),
    ] = None,
    external: Annotated[
        str, typer.Option("--external-data", help="Weights beside the model: auto (large models), always, never.")
    ] = "auto",
    pure: Annotated[bool, typer.Option("--pure-triton", help="With --to triton: no calls of torch.")] = False,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Compare the result with the source.")] = True,
    budget: Budget = None,
    page: Annotated[
        Path | None, typer.Option("--report", metavar="HTML", help="Write a page of all this, too.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Write the result even if it differs from the source.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    trust: Trust = False,
    debug: Debug = False,
) -> None:
    """Convert SOURCE, verify the result against it, and write the result with a certificate."""
    with _shown(debug, output) as console:
        from dragoman.conversion import convert as run

        report = run(
            source,
            output,
            to=to,
            inputs=inputs or (),
            opset=opset,
            target=target,
            precision=precision,
            external=external,
            pure=pure,
            verify=verify,
            budget=budget,
            keep=keep,
            overwrite=overwrite,
            trust=trust,
            page=page,
            progress=console.stage,
        )
        console.report(report)
    if report.verdict is not None and not report.verdict.holds:
        raise typer.Exit(NOT_EQUIVALENT)


@app.command()
def inspect(
    source: Source,
    inputs: Inputs = None,
    text: Annotated[bool, typer.Option("--text", help="Print the whole graph.")] = False,
    trust: Trust = False,
    debug: Debug = False,
) -> None:
    """Show inputs, outputs, parameters and operators of SOURCE, and everything that has no translation."""
    with _shown(debug) as console:
        from dragoman.inspection import inspect as run

        found = run(source, inputs=inputs or (), trust=trust, progress=console.stage)
        console.inspection(found, text=text)
    if found.unsupported:
        raise typer.Exit(UNSUPPORTED)


@app.command()
def explain(
    source: Source,
    rule: Annotated[
        str | None, typer.Option("--rule", metavar="NAME", help="One rule, or the op it finds, such as attention.")
    ] = None,
    inputs: Inputs = None,
    trust: Trust = False,
    debug: Debug = False,
) -> None:
    """Tell which rules fire in SOURCE and where, and what stopped those that nearly did."""
    with _shown(debug) as console:
        from dragoman.explanation import explain as run

        console.page(str(run(source, rule, inputs=inputs or (), trust=trust, progress=console.stage)))


@app.command()
def verify(
    first: Annotated[
        str, typer.Argument(metavar="A|CERT", help="A source; or a certificate, or the .onnx file that has one.")
    ],
    second: Annotated[str | None, typer.Argument(metavar="B", help="What to compare with: an .onnx file.")] = None,
    inputs: Inputs = None,
    budget: Budget = None,
    trust: Trust = False,
    debug: Debug = False,
) -> None:
    """Compare two models, or replay a certificate."""
    with _shown(debug) as console:
        from dragoman.face import replay
        from dragoman.face import verify as run

        seconds = _VERIFY_SECONDS if budget is None else budget
        if second is None:
            comparison = replay(_certificate(first), budget=seconds, trust=trust, progress=console.stage)
        else:
            comparison = run(first, second, specs=inputs or (), budget=seconds, trust=trust, progress=console.stage)
        console.comparison(comparison)
    if not comparison.verdict.holds:
        raise typer.Exit(NOT_EQUIVALENT)


def _certificate(named: str) -> Path:
    """The certificate that is meant: itself, or the one beside an output."""
    from dragoman.certificate import SUFFIX, certificate_of, certificate_path
    from dragoman.ir.errors import UsageError

    path = Path(named)
    if path.name.endswith(SUFFIX):
        return path
    if certificate_of("triton", path).is_file():
        return certificate_of("triton", path)
    if path.is_file() and certificate_path(path).is_file():
        return certificate_path(path)
    if path.is_file() and path.suffix == ".json":
        return path
    raise UsageError(
        f"verify takes two models, or one certificate: {named} is none and there is no {path.name}{SUFFIX}"
    )


@app.command()
def bench(
    sources: Annotated[list[str] | None, typer.Argument(metavar="SOURCE…", help=SOURCE_HELP)] = None,
    targets: Annotated[
        str | None, typer.Option("--targets", metavar="A,B", help="By default all that are here and take the source.")
    ] = None,
    batch: Annotated[str | None, typer.Option("--batch", metavar="1,8,32", help="Batch sizes.")] = None,
    precision: Annotated[str, typer.Option("--precision", metavar="f32,f16", help="Of f32, f16, bf16.")] = "f32",
    inputs: Inputs = None,
    compare: Annotated[
        list[str] | None, typer.Option("--compare", metavar="A.onnx", help="Files of one model, as they are.")
    ] = None,
    zoo: Annotated[bool, typer.Option("--zoo", help="The reference models.")] = False,
    base: Annotated[str, typer.Option("--base", metavar="NAME", help="The row that ratios are to.")] = "",
    clients: Annotated[int, typer.Option("--clients", min=0, help="Threads that send requests together.")] = 0,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Of each target; default: all.")] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.0, help="For the rounds of one group.")] = 15.0,
    json: Annotated[Path | None, typer.Option("--json", help="Write all results.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page.")] = None,
    trust: Trust = False,
    debug: Debug = False,
) -> None:
    """Measure SOURCE on every target that is here: times, ratios, errors, memory."""
    with _shown(debug) as console:
        from dragoman.bench.command import run

        result = run(
            [*(sources or ()), *(compare or ())],
            targets=targets,
            batch=batch,
            precision=precision,
            inputs=inputs or (),
            compare=bool(compare),
            zoo=zoo,
            base=base,
            clients=clients,
            threads=threads,
            seconds=seconds,
            json=json,
            html=html,
            trust=trust,
            progress=console.stage,
        )
        console.page(str(result))
    if not result.measured:
        raise typer.Exit(UNSUPPORTED)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where to write the models.")] = Path("demo-output"),
    debug: Debug = False,
) -> None:
    """Convert a real ResNet-50 and a real BERT, random weights, and show what happens."""
    with _shown(debug) as console:
        from dragoman.demo import run

        held = run(folder, console)
    if not held:
        raise typer.Exit(NOT_EQUIVALENT)


@contextmanager
def _shown(debug: bool, output: Path | None = None) -> Generator[Console]:
    """A console for a command; Ctrl-C is told with what became of the output."""
    with explained(output):
        from dragoman.console import Console

        with Console(warnings=debug) as console:
            yield console

"""The ``anomalib-plus`` command: its own commands and every command of anomalib."""

import difflib
import io
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import NamedTuple

from rich.logging import RichHandler

from anomalib_plus import __version__, register
from anomalib_plus.console_output import drop_advertising, less_output
from anomalib_plus.expected_errors import find_expected

_TRACEBACK = "ANOMALIB_PLUS_TRACEBACK"
_QUIET = "--quiet"


class OwnCommand(NamedTuple):
    """Command of this package: the module whose ``main(arguments) -> exit status`` runs it, and a summary."""

    module: str
    summary: str


OWN_COMMANDS = {
    "doctor": OwnCommand("anomalib_plus.doctor", "check versions, registration, device and what a build needs"),
    "models": OwnCommand("anomalib_plus.model_list", "list the models with their presets"),
    "config": OwnCommand("anomalib_plus.presets", "print the path of a preset, for --config; list the presets"),
    "demo": OwnCommand("anomalib_plus.demo", "write example images and a trained inspector, to try the other commands"),
    "build": OwnCommand("anomalib_plus.inspector.building.command", "build an inspector from images of good parts"),
    "benchmark": OwnCommand("anomalib_plus.benchmark.command", "compare models, data sets and seeds; resumable"),
    "selection": OwnCommand(
        "anomalib_plus.benchmark.selection", "tell whether synthetic defects choose the models that real ones would"
    ),
    "reproduce": OwnCommand("anomalib_plus.benchmark.reproduce", "train a paper's models and compare with its table"),
    "deployment": OwnCommand(
        "anomalib_plus.benchmark.exports.command", "export models in every format; compare and time the backends"
    ),
    "gallery": OwnCommand("anomalib_plus.gallery.command", "draw the synthetic anomalies on your images, or on a demo"),
    "synthesize": OwnCommand(
        "anomalib_plus.gallery.synthesize", "write images of synthetic defects with masks, made from good images"
    ),
    "report": OwnCommand(
        "anomalib_plus.report.command", "write a benchmark's results as one HTML file, Markdown or CSV"
    ),
    "score": OwnCommand("anomalib_plus.inspector.score", "inspect images with a bundle; CSV, overlays, exit status"),
    "watch": OwnCommand("anomalib_plus.inspector.watch", "inspect each image that appears in a folder; warn of drift"),
}


def _run_anomalib(arguments: Sequence[str], quiet: bool = False) -> None:
    _check_command(arguments[0])
    register()  # unlike the start-up hook, it raises errors
    from anomalib.loggers import configure_logger

    from anomalib_plus.seeded_cli import SeededCLI

    configure_logger()
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, RichHandler)]:
        root.removeHandler(handler)  # a duplicate on stdout, which would end up in `--print_config > file`
    drop_advertising()
    SeededCLI(arguments, quiet=quiet)


def _check_command(command: str) -> None:
    """Exit if the command is unknown; anomalib's parser would list its own commands only."""
    from anomalib.cli.cli import AnomalibCLI
    from anomalib.cli.pipelines import pipeline_subcommands

    theirs = {"install", *AnomalibCLI.subcommands(), *AnomalibCLI.anomalib_subcommands(), *pipeline_subcommands()}
    if command.startswith("-") or command in theirs:
        return
    similar = difflib.get_close_matches(command, [*OWN_COMMANDS, *theirs], n=1)
    hint = f" Did you mean {similar[0]!r}?" if similar else ""
    sys.stderr.write(
        f"anomalib-plus: there is no command {command!r}.{hint}\n"
        f"  Commands of anomalib-plus: {', '.join(OWN_COMMANDS)}\n"
        f"  Commands of anomalib: {', '.join(sorted(theirs - OWN_COMMANDS.keys()))}\n"
    )
    raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``anomalib-plus``.

    Expected errors are printed without a traceback, unless ``ANOMALIB_PLUS_TRACEBACK`` is set.

    Args:
        arguments: Arguments after the command's name; by default those of ``sys.argv``. ``--quiet`` may come first.

    Returns:
        The exit status, 1 after such an error. anomalib's parser raises ``SystemExit`` for help and wrong arguments.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    quiet = arguments[:1] == [_QUIET]
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the console cannot show must not end the command
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with less_output(quiet):
            return _run(arguments[quiet:], quiet)
    except Exception as error:
        expected = find_expected(error)
        if expected is None or _TRACEBACK in os.environ:
            raise
        sys.stderr.write(f"\nanomalib-plus: {expected}\n({_TRACEBACK}=1 shows where this was raised.)\n")
        return 1


def _run(arguments: Sequence[str], quiet: bool) -> int:
    # Without this module, OpenVINO and nncf, which anomalib's command imports, send no usage data.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    command = arguments[0] if arguments else "--help"
    if command == "--version":
        print(f"anomalib-plus {__version__} (anomalib {version('anomalib')})")
        return 0
    if command in OWN_COMMANDS:
        return import_module(OWN_COMMANDS[command].module).main(arguments[1:])
    if command in {"-h", "--help"}:
        print("anomalib-plus: anomalib's command with the models and datamodules of anomalib-plus.\n")
        print("Commands of anomalib-plus:")
        for name, own in OWN_COMMANDS.items():
            print(f"  {name:12}{own.summary}")
        print(f"\n{_QUIET} before a command leaves out all but warnings, results and one line per event.")
        print("\nAnd every command of anomalib, with a --seed_everything that takes effect:\n", flush=True)
    _run_anomalib(arguments or ["--help"], quiet)
    return 0

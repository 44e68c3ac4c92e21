"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
import traceback

import click

from mmbench import __version__
from mmbench.cli.compare import compare
from mmbench.cli.data import data
from mmbench.cli.figures import figures
from mmbench.cli.leaderboard import leaderboard
from mmbench.cli.listing import listing
from mmbench.cli.plugin import plugin
from mmbench.cli.protocol import protocol
from mmbench.cli.run import run
from mmbench.cli.stopping import leave, stoppable
from mmbench.cli.verify import verify
from mmbench.errors import MmbenchError
from mmbench.texts import harmless


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mmbench")
def cli() -> None:
    """How robust is a multimodal sentiment model when modalities go missing?

    Train a method, test it under every missing condition, and compare leaderboards:

        mmbench run --method hrlf --dataset iemocap

    Exit status: 0 done; 1 some jobs failed, and their rows say why, a data set has something serious,
    compare was to fail on a regression, verify found something that disagrees, or a check of a plugin failed;
    2 a mistake in usage, configuration, plugin or data, told in one message. --debug, anywhere, shows
    the traceback.
    """


for command in (run, listing, data, protocol, leaderboard, compare, verify, figures, plugin):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and exits with its status; errors meant for people come without a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        rest = [w for w in words if w != "--debug"]
        with stoppable():
            status = cli.main(rest, "mmbench", standalone_mode=False, obj=debug)
    except (click.exceptions.Abort, KeyboardInterrupt) as error:
        leave(error.__cause__ or error)  # click makes the one of the other
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except MmbenchError as error:
        if debug:
            traceback.print_exc()
        fail(str(error), 2)
    except BrokenPipeError:
        sys.exit(141)  # the reader of our output has gone, as in `mmbench list | head`
    sys.exit(status if isinstance(status, int) else 0)


def fail(message: str, status: int) -> None:
    """Prints one message and exits."""
    click.echo(harmless(f"mmbench: {message}"), err=True)
    sys.exit(status)

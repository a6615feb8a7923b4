"""Prints the options of SAM's commands that the arguments name, as JSON: whether each takes a value."""

import json
import sys

import click
from samcli.cli.main import cli


def find(name):
    command = cli
    for word in name.split():
        # SAM has commands for a context with an object only; what it is doesn't matter here.
        command = command.get_command(click.Context(command, obj=object()), word)
        if command is None:
            sys.exit(f"SAM has no command {name}")
    return command


json.dump(
    {
        name: {
            option: not parameter.is_flag
            for parameter in find(name).params
            if isinstance(parameter, click.Option)
            for option in parameter.opts + parameter.secondary_opts
        }
        for name in sys.argv[1:]
    },
    sys.stdout,
)

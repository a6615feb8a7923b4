"""Says what is wrong with command lines of the AWS CLI and with parameters of CloudFormation templates.

It reads questions in JSON from its standard input, and answers each with a list of faults, empty where all is well:

  {"aws": ["ecs", "list-tasks", "--cluster", "\\u0000"], "named": false}
                                                                       words of a command, after `aws`; named: it is only
                                                                       spoken of, and may lack what it needs
  {"template": "path", "overrides": {"Name": "value"}, "whole": true}  parameters that a template is deployed with;
                                                                       whole: all that have no default must be there

A word or value with U+0000 in it is what the shell fills in, and could be anything. So could a value in capitals, which
stands for what the reader fills in, unless the parameter says which values it may have.

The commands, options, required options, enumerations and outputs are those of the real AWS CLI, version 1. What only
version 2 has, which is what users have, is in a table here.
"""

import json
import re
import sys

import jmespath
from awscli.clidriver import create_clidriver
from awscli.customizations.cloudformation.yamlhelper import yaml_parse

FILLED_IN = "\0"

# https://docs.aws.amazon.com/cli/latest/reference/logs/tail.html, and the global options beside it.
ONLY_VERSION_2 = {("logs", "tail"): {"options": {"--since", "--follow", "--format", "--filter-pattern", "--log-stream-names", "--log-stream-name-prefix"}, "flags": {"--follow"}, "words": 1}}
GLOBAL_VERSION_2 = {"--cli-binary-format", "--no-cli-pager", "--cli-auto-prompt", "--no-cli-auto-prompt"}
GLOBAL_FLAGS = {"--no-paginate", "--no-sign-request", "--no-verify-ssl", "--debug", "--no-cli-pager", "--cli-auto-prompt", "--no-cli-auto-prompt"}

driver = create_clidriver()


def aws(words):
    words = list(words)
    names, command, table = [], None, driver._get_command_table()
    while words and not words[0].startswith("-"):
        name = words[0]
        if tuple(names + [name]) in ONLY_VERSION_2:
            return version_2(ONLY_VERSION_2[tuple(names + [name])], words[1:])
        service = command is None or hasattr(command, "_get_command_table")
        if name not in table:
            if service:
                return [f"aws {' '.join(names)} has no command {name}".replace("  ", " ")]
            break
        names, command, words = names + [name], table[name], words[1:]
        table = command._get_command_table() if hasattr(command, "_get_command_table") else command.subcommand_table if hasattr(command, "subcommand_table") else {}
    said = "aws " + " ".join(names)
    if command is None or hasattr(command, "_get_command_table"):
        return [f"{said}: a command is missing"]
    positional = [a for a in command.arg_table.values() if not a.cli_name.startswith("--")]
    named = {a.cli_name: a for a in command.arg_table.values() if a.cli_name.startswith("--")}
    faults, given, free, query = [], set(), [], None
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            free.append(word)
            continue
        name, equals, value = word.partition("=")
        values = [value] if equals else []
        flag = name in GLOBAL_FLAGS or (name in named and named[name].cli_type_name == "boolean")
        if name not in named and name not in GLOBAL_VERSION_2 and name[2:] not in driver._get_argument_table():
            faults.append(f"{said} has no option {name}")
            flag = not words or words[0].startswith("--")
        if name == "--cli-input-json":
            given.update(named)
        if not equals and not flag:
            many = name in named and (named[name].cli_type_name == "list" or named[name].nargs in ("*", "+"))
            while words and not words[0].startswith("--") and (many or not values):
                values.append(words.pop(0))
            if not values:
                faults.append(f"{said} {name} lacks a value")
        if name == "--query":
            query = values[0] if values else None
        given.add(name)
        faults += [f"{said}: {fault}" for fault in wrong_values(named.get(name), name, values)]
    room = [a for a in positional for _ in range(a.nargs if isinstance(a.nargs, int) else 1)]
    if len(free) > len(room) and not any(a.nargs in ("*", "+") for a in positional):
        faults.append(f"{said} takes no {free[len(room)]!r}")
    for argument in room[len(free):]:
        if argument.required:
            faults.append(f"{said} lacks {argument.cli_name}")
    for name, argument in named.items():
        if argument.required and name not in given:
            faults.append(f"{said} lacks {name}")
    if query is not None:
        faults += [f"{said}: {fault}" for fault in wrong_query(command, query)]
    return faults


def version_2(known, words):
    faults, free = [], 0
    while words:
        word, words = words[0], words[1:]
        if not word.startswith("--"):
            free += 1
        elif word not in known["options"]:
            faults.append(f"it has no option {word}")
        elif word not in known["flags"]:
            words = words[1:]
    if free != known["words"]:
        faults.append(f"it takes {known['words']} words, not {free}")
    return faults


def wrong_values(argument, name, values):
    """Values that an enumeration of AWS's API doesn't have. What the CLI adds has them for its help alone."""
    if getattr(argument, "_operation_model", None) is None:
        return []
    shape = getattr(argument, "argument_model", None)
    if shape is None:
        return []
    while shape.type_name == "list":
        shape = shape.member
    enum = getattr(shape, "enum", None)
    if not enum:
        return []
    return [f"{name} can't be {value!r}: {', '.join(enum)}" for value in values if FILLED_IN not in value and value not in enum]


def wrong_query(command, query):
    """A query that finds nothing, whatever AWS answers. What selects by a value may find nothing, and is only parsed."""
    query = query.replace(FILLED_IN, "x")
    try:
        parsed = jmespath.compile(query)
    except jmespath.exceptions.ParseError as e:
        return [f"--query: {e}"]
    model = getattr(command, "_operation_model", None)
    if model is None or model.output_shape is None or "?" in query:
        return []
    if parsed.search(sample(model.output_shape, 0)) in (None, [], ""):
        return [f"--query {query} finds nothing in its output"]
    return []


def sample(shape, depth):
    """An answer in which everything is there."""
    if depth > 12:
        return None
    if shape.type_name == "structure":
        return {name: sample(member, depth + 1) for name, member in shape.members.items()}
    if shape.type_name == "list":
        return [sample(shape.member, depth + 1)] * 2
    if shape.type_name == "map":
        return {"x": sample(shape.value, depth + 1)}
    return {"integer": 1, "long": 1, "float": 1.0, "double": 1.0, "boolean": True}.get(shape.type_name, "x")


def template(path, overrides, whole):
    with open(path) as file:
        parameters = yaml_parse(file.read()).get("Parameters", {})
    faults = []
    for name, value in overrides.items():
        parameter = parameters.get(name)
        if parameter is None:
            faults.append(f"{path} has no parameter {name}")
        elif FILLED_IN not in value and ("AllowedValues" in parameter or not re.fullmatch(r"[A-Z_]+(,[A-Z_]+)*", value)):
            faults += [f"{name}={value}: {fault}" for fault in wrong_parameter(parameter, value)]
    if whole:
        faults += [f"{path} needs a parameter {name}" for name, p in parameters.items() if "Default" not in p and name not in overrides]
    return faults


def wrong_parameter(parameter, value):
    kind = parameter["Type"]
    values = value.split(",") if kind == "CommaDelimitedList" or kind.startswith("List<") else [value]
    for one in values:
        if "AllowedValues" in parameter and one not in map(str, parameter["AllowedValues"]):
            yield f"{one} is none of {parameter['AllowedValues']}"
        if "AllowedPattern" in parameter and not re.search(f"^(?:{parameter['AllowedPattern']})$", one):
            yield parameter.get("ConstraintDescription", parameter["AllowedPattern"])
        if kind == "Number" and not parameter.get("MinValue", float("-inf")) <= float(one) <= parameter.get("MaxValue", float("inf")):
            yield parameter.get("ConstraintDescription", "out of range")
        for resource in ("Subnet", "SecurityGroup", "VPC"):
            prefix = {"Subnet": "subnet-", "SecurityGroup": "sg-", "VPC": "vpc-"}[resource]
            if f"::{resource}::Id" in kind and not one.startswith(prefix):
                yield f"{one} is no ID, {prefix}…"


def main():
    answers = []
    for question in json.load(sys.stdin):
        if "aws" in question:
            faults = aws(question["aws"])
            answers.append([f for f in faults if " lacks " not in f] if question["named"] else faults)
        else:
            answers.append(template(question["template"], question["overrides"], question["whole"]))
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()

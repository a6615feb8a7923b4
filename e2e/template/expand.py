"""Prints the CloudFormation template that a SAM template becomes when it is deployed. It asks nobody anything.

Usage: expand.py TEMPLATE
"""

import json
import os
import sys

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse


class NoManagedPolicies:
    """SAM asks IAM for the ARNs of the managed policies that a template names. Ours names none."""

    def load(self):
        return {}


def main():
    with open(sys.argv[1]) as file:
        template = yaml_parse(file)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://artifacts/code.zip"  # as `sam package` would
    os.environ["AWS_DEFAULT_REGION"] = "us-east-1"  # SAM asks for the partition's name
    json.dump(transform(template, {}, NoManagedPolicies()), sys.stdout, indent=2)


if __name__ == "__main__":
    main()

"""Expands the SAM template as AWS would: expand.py TEMPLATE OUTPUT [NAME=VALUE]...

The code of the functions need not be built: each stands for itself under a name that S3 would take.
"""

import json
import logging
import sys

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

source, output, *overrides = sys.argv[1:]
# It warns of feature toggles that only AWS's own copy of the transform has.
logging.disable(logging.WARNING)
with open(source, encoding="utf-8") as file:
    template = yaml_parse(file.read())
for resource in template["Resources"].values():
    properties = resource["Properties"]
    if resource["Type"] == "AWS::Serverless::Function":
        properties["CodeUri"] = "s3://artifacts/" + properties["CodeUri"].strip("/")
    if resource["Type"] == "AWS::CloudFormation::Stack":
        properties["TemplateURL"] = "https://s3.amazonaws.com/artifacts/" + properties["TemplateURL"]
values = {name: about.get("Default") for name, about in template["Parameters"].items()}
values |= dict(override.split("=", 1) for override in overrides)
session = boto3.session.Session(region_name="us-east-1")
expanded = Translator({}, Parser(), boto_session=session).translate(template, values)
with open(output, "w", encoding="utf-8") as file:
    json.dump(expanded, file, indent=2, default=str)
    file.write("\n")

"""One call of AWS: call.py SERVICE METHOD '{"Argument": ...}' prints the answer as JSON."""

import json
import sys

import boto3
from botocore.config import Config

service, method, arguments = sys.argv[1:]
client = boto3.client(service, config=Config(retries={"total_max_attempts": 3}))
answer = getattr(client, method)(**json.loads(arguments))
answer.pop("ResponseMetadata", None)
print(json.dumps(answer, default=str))

"""Calls of AWS: each line read is [SERVICE, METHOD, ARGUMENTS], each line written its answer, or
{"refused": WHY}."""

import json
import sys

import boto3
from botocore.config import Config

clients = {}
for line in sys.stdin:
    service, method, arguments = json.loads(line)
    try:
        if service not in clients:
            config = Config(retries={"total_max_attempts": 3})
            clients[service] = boto3.client(service, config=config)
        answer = getattr(clients[service], method)(**arguments)
        answer.pop("ResponseMetadata", None)
    except Exception as error:
        answer = {"refused": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer, default=str), flush=True)

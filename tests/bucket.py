"""What happens to a bucket behind everybody's back: URL BUCKET WHAT (save | load | drop | damage | count)."""
import os, sys

import boto3

url, bucket, what, how = sys.argv[1:5]
s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
keys = [o["Key"] for page in pages for o in page.get("Contents", [])]


def body(key):
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


if how == "save":
    # Everything into a directory, a file each.
    os.makedirs(what)
    for n, key in enumerate(keys):
        with open(f"{what}/{n}", "wb") as file:
            file.write(key.encode() + b"\n" + body(key))
elif how == "load":
    # Exactly what was saved.
    kept = set()
    for name in os.listdir(what):
        with open(f"{what}/{name}", "rb") as file:
            key, saved = file.read().split(b"\n", 1)
        kept.add(key.decode())
        s3.put_object(Bucket=bucket, Key=key.decode(), Body=saved)
    for key in set(keys) - kept:
        s3.delete_object(Bucket=bucket, Key=key)
else:
    named = [key for key in keys if f"/{what}" in key]
    if how == "count":
        print(len(named))
    for key in named:
        if how == "drop":
            s3.delete_object(Bucket=bucket, Key=key)
        elif how == "damage":
            good = body(key)
            at = len(good) * 2 // 3
            s3.put_object(Bucket=bucket, Key=key, Body=good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])

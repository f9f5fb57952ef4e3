#!/usr/bin/env python3
"""backstay for programs that take every repository for a directory: it lies in a bucket instead.

    IN_BUCKET=s3:http://127.0.0.1:PORT/bucket/prefix IN_BUCKET_RUNS=/path/of/backstay in-bucket.py ARGUMENTS…

Each directory that stands behind -r or --to becomes a prefix of its own. What was changed in the directory is carried into the
bucket before the program runs, and what the program changed is carried back afterwards, so that whoever measures, damages or
copies the directory does so to the bucket. With IN_BUCKET_CARRY=no nothing is carried, and the program takes this one's
place, so that a kill hits it.
"""
import ctypes, hashlib, os, signal, subprocess, sys
from urllib.parse import urlsplit

PLACE = os.environ["IN_BUCKET"]
PROGRAM = os.environ["IN_BUCKET_RUNS"]
CARRY = os.environ.get("IN_BUCKET_CARRY") != "no"


def main():
    args, dirs = list(sys.argv[1:]), []
    for n, arg in enumerate(args[1:], 1):
        if args[n - 1] in ("-r", "--to") and arg.startswith("/"):
            prefix = hashlib.sha256(arg.encode()).hexdigest()[:16]
            dirs.append((arg, prefix))
            args[n] = f"{PLACE}/{prefix}"
    if not CARRY:
        os.execv(PROGRAM, [PROGRAM] + args)
    bucket = Bucket()
    for path, prefix in dirs:
        bucket.carry_in(path, prefix)

    def with_us():
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)

    code = subprocess.run([PROGRAM] + args, preexec_fn=with_us).returncode
    for path, prefix in dirs:
        bucket.carry_out(path, prefix)
    sys.exit(code if code >= 0 else 128 - code)


class Bucket:
    def __init__(self):
        import boto3

        url = urlsplit(PLACE.removeprefix("s3:"))
        self.bucket, _, self.prefix = url.path.strip("/").partition("/")
        self.s3 = boto3.client("s3", endpoint_url=f"{url.scheme}://{url.netloc}", region_name="us-east-1")

    def listed(self, prefix):
        """Name below the prefix -> MD5, which is the ETag of what was put in one piece."""
        at = f"{self.prefix}/{prefix}/"
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=at)
        return {o["Key"].removeprefix(at): o["ETag"].strip('"') for page in pages for o in page.get("Contents", [])}

    def key(self, prefix, name):
        return {"Bucket": self.bucket, "Key": f"{self.prefix}/{prefix}/{name}"}

    def carry_in(self, path, prefix):
        there, here = self.listed(prefix), on_disk(path)
        for name, md5 in here.items():
            if there.get(name) != md5:
                with open(os.path.join(path, name), "rb") as file:
                    self.s3.put_object(Body=file.read(), **self.key(prefix, name))
        for name in there.keys() - here.keys():
            self.s3.delete_object(**self.key(prefix, name))

    def carry_out(self, path, prefix):
        there, here = self.listed(prefix), on_disk(path)
        for name, md5 in there.items():
            if here.get(name) != md5:
                file = os.path.join(path, name)
                os.makedirs(os.path.dirname(file), exist_ok=True)
                body = self.s3.get_object(**self.key(prefix, name))["Body"].read()
                with open(file, "wb") as out:
                    out.write(body)
        for name in here.keys() - there.keys():
            os.remove(os.path.join(path, name))


def on_disk(path):
    found = {}
    for at, _, names in os.walk(path):
        for name in names:
            file = os.path.join(at, name)
            with open(file, "rb") as body:
                found[os.path.relpath(file, path)] = hashlib.md5(body.read()).hexdigest()
    return found


main()

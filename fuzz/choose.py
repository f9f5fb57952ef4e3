#!/usr/bin/env python3
"""Chooses the inputs that reach the most code, from the control file of a libFuzzer merge: choose.py CONTROL FILES_MAX

Prints the names of the files, the one that adds the most first; of two that add the same, the smaller one.
"""
import os
import sys

control, files_max = sys.argv[1], int(sys.argv[2])
lines = open(control, encoding="utf-8").read().splitlines()
names = lines[2:2 + int(lines[0])]
reached = {name: set() for name in names}
for line in lines[2 + len(names):]:
    kind, number, *features = line.split()
    if kind in ("FT", "COV"):
        reached[names[int(number)]].update((kind, feature) for feature in features)
covered = set()
for _ in range(files_max):
    best = max(names, key=lambda name: (len(reached[name] - covered), -os.path.getsize(name)))
    if not reached[best] - covered:
        break
    covered |= reached[best]
    print(best)

"""Fault injection: killed commands, full disks, damaged files, hostile input; `python -m tests.chaos --seed=0`."""

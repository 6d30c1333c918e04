#!/bin/sh
# Packages must not start their services while they are installed: a container runs what it is told to run.
exit 101

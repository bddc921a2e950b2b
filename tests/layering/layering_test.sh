#!/bin/bash
# usage: layering_test.sh LABELS PATTERN...   fails if a line of the file LABELS matches an extended regular expression.
set -u
labels=$1
shift
if [ ! -s "$labels" ]; then
  echo "$labels is empty: the query found nothing" >&2
  exit 1
fi
status=0
for pattern in "$@"; do
  if grep -E -- "$pattern" "$labels"; then
    echo "^ reached, but forbidden ($pattern); see tools/layering.bzl" >&2
    status=1
  fi
done
exit $status

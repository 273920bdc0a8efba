#!/bin/sh
# Says whether the tree is good: every stage in order, stops at the first that fails.
# The tests come last, so that their count is the last line.
set -eu
cd "$(dirname "$0")/.."

for stage in typecheck lint imports dead build test; do
  printf '\n== %s\n' "$stage"
  npm run --silent "$stage"
done

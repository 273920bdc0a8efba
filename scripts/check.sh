#!/bin/sh
# Says whether the tree is good: every stage in order, stops at the first that fails.
# The tests come last, so that their count is the last line.
#
#   npm run check               everything
#   npm run check -- --quick    without the tests that start processes or run long
set -eu
cd "$(dirname "$0")/.."

case "${1-}" in
  "")
    stages='typecheck lint imports dead fits build test'
    echo 'Everything: about seven minutes on two cores, and longer where others work too.'
    echo 'Types, lint and the short tests alone take one minute: npm run check -- --quick'
    ;;
  --quick)
    stages='typecheck lint imports dead fits build test:quick'
    echo 'Without the tests that start processes or run long: about one minute on two idle cores.'
    ;;
  *)
    echo "check: $1 is no option of it; there is --quick" >&2
    exit 2
    ;;
esac

total=$(echo "$stages" | wc -w | tr -d ' ')
number=0
for stage in $stages; do
  number=$((number + 1))
  printf '\n== %s (%s of %s)\n' "$stage" "$number" "$total"
  npm run --silent "$stage"
done

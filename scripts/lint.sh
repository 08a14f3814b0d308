#!/usr/bin/env bash
# Lints the tree with golangci-lint, or says how to get it.
set -euo pipefail
cd "$(dirname "$0")/.."

version=v2.15.0
lint=$(command -v golangci-lint || true)
[ -n "$lint" ] || lint="$(go env GOPATH)/bin/golangci-lint"
if [ ! -x "$lint" ]; then
  echo "left out: the linter is not installed (go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$version); go vet runs"
  exec go vet ./...
fi
exec "$lint" run ./...

#!/usr/bin/env bash
# Tests all that this machine can: lint, the compose file, and every Go test with the race detector on one native stack
# that is started once. Says in a line each what it leaves out. GO_TEST_ARGS replaces the packages and flags of go test.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${GO_TEST_ARGS:-}" ]; then
  echo "== lint"
  ./scripts/lint.sh
  echo "== compose file, TLS and SASL"
  (cd internal/testing && go vet ./... && go test -timeout 30m ./...)
fi

echo "== stack"
go build -o bin/cdcseed ./cmd/cdcseed
dir=$(mktemp -d "${TMPDIR:-/tmp}/cdcseed-test-XXXXXX")
chmod 755 "$dir" # Postgres runs as another user under root
stop() {
  status=$?
  ./bin/cdcseed native down --dir "$dir/stack" >"$dir/down.log" 2>&1 || { cat "$dir/down.log"; status=1; }
  rm -rf "$dir"
  exit $status
}
trap stop EXIT

only=()
if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then
  echo "left out: tests with Kafka and Debezium, because java or mvn is missing"
  only=(--postgres-only)
  [ -z "${CDCSEED_TEST_REQUIRE_STACK:-}" ]
fi
./bin/cdcseed native up --dir "$dir/stack" --postgres-port 0 --kafka-port 0 --connect-port 0 --json "${only[@]}" >"$dir/stack.json"
cat "$dir/stack.json"
field() { sed -n "s|.*\"$1\": \"\([^\"]*\)\".*|\1|p" "$dir/stack.json"; }
CDCSEED_TEST_DSN=$(field dsn | sed 's|://db_user@|://db_user:db_password@|')"?sslmode=disable"
CDCSEED_TEST_KAFKA=$(field bootstrap_servers)
CDCSEED_TEST_CONNECT=$(field connect_url)
export CDCSEED_TEST_DSN CDCSEED_TEST_KAFKA CDCSEED_TEST_CONNECT
unset CDCSEED_PASSWORD PGPASSWORD PGHOST PGPORT PGUSER PGDATABASE

echo "== go test"
# Most tests wait for a server, so more of them run at once than there are cores.
if [ -n "${GO_TEST_ARGS:-}" ]; then
  eval "go test -count=1 -timeout 80m $GO_TEST_ARGS"
else
  race=(-race)
  if [ "$(go env CGO_ENABLED)" != 1 ] || ! command -v "$(go env CC)" >/dev/null; then
    echo "left out: the race detector, because there is no C compiler"
    race=()
  fi
  go test "${race[@]}" -count=1 -timeout 80m -parallel 8 ./...
fi

# `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

GO ?= go
COMPOSE ?= docker compose
# Flags for `cdcseed run`: make run ARGS="--avg-qps 100 --duration 5m"
ARGS ?=
TOPIC ?= orders
SCHEMA ?= demo
PREFIX ?= ecomm

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/cdcseed
	$(GO) build -o bin/cdcseed ./cmd/cdcseed


.PHONY: run
run: up-native ## native stack up, then the living shop on it until Ctrl-C (ARGS="..." are flags of `cdcseed run`)
	@./bin/cdcseed run --connect-url http://localhost:8083 --if-exists append $(ARGS)

.PHONY: up-native
up-native: build ## Postgres, Kafka and Connect with Debezium as local processes
	@./bin/cdcseed native up

.PHONY: down-native
down-native: build ## stop the native stack and remove its data
	@./bin/cdcseed native down


.PHONY: up
up: ## the same stack in containers, and the shop on it
	$(COMPOSE) up --detach --build --wait --wait-timeout 600
	@$(COMPOSE) ps

.PHONY: down
down: ## stop the containers, keep the data
	$(COMPOSE) down

.PHONY: reset
reset: ## stop the containers and forget the data
	$(COMPOSE) down --volumes

.PHONY: logs
logs: ## follow the shop's log
	$(COMPOSE) logs --follow cdcseed

.PHONY: psql
psql: ## a prompt in the containers' database
	$(COMPOSE) exec -e PGOPTIONS=--search_path=$(SCHEMA) postgres psql -U db_user -d fh_dev

.PHONY: consume
consume: ## print the change events of a table (TOPIC=orders)
	$(COMPOSE) exec kafka /opt/kafka/bin/kafka-console-consumer.sh --bootstrap-server localhost:29092 \
		--topic $(PREFIX).$(SCHEMA).$(TOPIC) --from-beginning --formatter-property print.key=true


.PHONY: test
test: ## everything that this machine can test; what it leaves out is said
	@./scripts/test.sh

.PHONY: lint
lint: ## golangci-lint, if it is installed
	@./scripts/lint.sh

.PHONY: bench
bench: ## benchmarks; those of the database on a Postgres started for them
	$(GO) test -run '^$$' -bench . -benchtime 3s ./models ./shop ./debezium ./seed
	$(GO) test -run '^$$' -bench . -benchtime 5000x ./workload

.PHONY: fuzz
fuzz: ## each fuzz test for a minute
	$(GO) test -run '^$$' -fuzz FuzzDecode -fuzztime 1m ./debezium
	$(GO) test -run '^$$' -fuzz FuzzDecode -fuzztime 1m ./debezium/emulator
	$(GO) test -run '^$$' -fuzz FuzzMoney -fuzztime 1m ./models

.PHONY: golden
golden: ## write the golden files anew, from the real Debezium
	@GO_TEST_ARGS="-run 'TestRecordings|TestConnectorFile' -update ./cmd/cdcseed" ./scripts/test.sh

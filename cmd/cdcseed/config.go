package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"
)

// readConfig sets the flags that neither the command line nor the environment set from the file that --config names. A
// key is a flag's name in either spelling; one that belongs to another command is passed over, so that commands can share
// a file; one that belongs to none is refused.
func readConfig(c *cli.Context) error {
	file := c.String("config")
	if file == "" {
		return nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return usagef("--config: %v", err)
	}
	var values map[string]any
	if err := yaml.Unmarshal(b, &values); err != nil {
		return usagef("--config %s: %s", file, redact(err.Error()))
	}
	own, known := map[string]bool{}, map[string]bool{}
	for _, f := range c.Command.Flags {
		own[f.Names()[0]] = true
	}
	collectFlags(c.App.Commands, known)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		name := strings.ReplaceAll(key, "_", "-")
		switch {
		case name == "config" || !known[name]:
			return usagef("--config %s: there is no flag %q", file, key)
		case !own[name] || c.IsSet(name):
			continue
		}
		list, isList := values[key].([]any)
		if !isList {
			list = []any{values[key]}
		}
		for _, v := range list {
			if v == nil {
				return usagef("--config %s: %s has no value", file, key)
			}
			if err := c.Set(name, fmt.Sprint(v)); err != nil {
				return usagef("--config %s: %s: %v; allowed is %s", file, key, err, allowed[name])
			}
		}
	}
	return nil
}

func collectFlags(commands []*cli.Command, into map[string]bool) {
	for _, cmd := range commands {
		for _, f := range cmd.Flags {
			into[f.Names()[0]] = true
		}
		collectFlags(cmd.Subcommands, into)
	}
}

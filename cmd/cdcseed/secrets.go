package main

import (
	"slices"
	"strings"
)

// secretFlags hold secrets.
var secretFlags = []string{"password", "dsn", "sasl-password", "connector-password", "connect-url"}

// moveSecrets takes the secret flags out of a command line and puts their values into the environment, where the flags
// look for them as well.
func moveSecrets(args, env []string) (rest, newEnv []string) {
	newEnv = env
	for i := 0; i < len(args); i++ {
		name, value, inline := strings.Cut(args[i], "=")
		flag := strings.ReplaceAll(strings.TrimLeft(name, "-"), "_", "-")
		if args[i] == "--" {
			return append(rest, args[i:]...), newEnv
		}
		if !strings.HasPrefix(name, "-") || !slices.Contains(secretFlags, flag) || (!inline && i+1 >= len(args)) {
			rest = append(rest, args[i])
			continue
		}
		if !inline {
			i++
			value = args[i]
		}
		variable := envName(flag) + "="
		newEnv = slices.DeleteFunc(slices.Clone(newEnv), func(v string) bool { return strings.HasPrefix(v, variable) })
		newEnv = append(newEnv, variable+value)
	}
	return rest, newEnv
}

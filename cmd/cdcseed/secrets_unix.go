//go:build unix

package main

import (
	"os"
	"syscall"
)

// hideSecrets starts the program again with the secrets of its command line in the environment instead, because any user
// of the machine may read another's command lines, but not their environments.
func hideSecrets() {
	args, env := moveSecrets(os.Args, os.Environ())
	if len(args) == len(os.Args) {
		return
	}
	self, err := os.Executable()
	if err != nil {
		return // then it runs as it is; ps shows what the user typed
	}
	_ = syscall.Exec(self, args, env) //nolint:gosec // ourselves
}

//go:build !unix

package native

import (
	"context"
	"errors"
	"os"
)

// errPlatform is what every part says where processes cannot be handled as on Unix.
var errPlatform = errors.New("the native stack runs on Linux and macOS; use `make up` (Docker) here")

type credential struct{}

func unprivileged() (*credential, error)  { return nil, errPlatform }
func (c *credential) own(...string) error { return errPlatform }
func startTime(int) string                { return "" }
func terminate(int, bool) error           { return errPlatform }
func kill(int) error                      { return errPlatform }
func (s *stack) lock() (func(), error)    { return nil, errPlatform }

func startDetached(string, []string, []string, string, *os.File, *credential) (int, error) {
	return 0, errPlatform
}

func runAs(context.Context, string, *credential, string, ...string) (string, error) {
	return "", errPlatform
}

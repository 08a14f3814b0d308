//go:build unix

package native

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// credential is the user that a server runs as; nil is our own.
type credential struct{ uid, gid int }

// unprivileged returns the user that Postgres runs as when we are root, which it refuses to be.
func unprivileged() (*credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("ids of user %s: %w", name, err)
		}
		return &credential{uid, gid}, nil
	}
	return nil, fmt.Errorf("a user postgres or nobody to run Postgres as (it refuses root): %w", ErrMissing)
}

// own gives files to the user.
func (c *credential) own(paths ...string) error {
	if c == nil {
		return nil
	}
	for _, p := range paths {
		if err := os.Chown(p, c.uid, c.gid); err != nil {
			return fmt.Errorf("give %s to uid %d: %w", p, c.uid, err)
		}
	}
	return nil
}

func (c *credential) attr() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{}
	if c != nil {
		attr.Credential = &syscall.Credential{Uid: uint32(c.uid), Gid: uint32(c.gid)}
	}
	return attr
}

// startDetached starts a program in a session of its own, so that neither our end nor a Ctrl-C at our terminal ends it.
func startDetached(program string, args, env []string, dir string, out *os.File, as *credential) (int, error) {
	cmd := exec.Command(program, args...) //nolint:noctx // the stack's own servers, which outlive any context
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = as.attr()
	cmd.SysProcAttr.Setsid = true
	if err := cmd.Start(); err != nil {
		return 0, err //nolint:wrapcheck // wrapped by the caller
	}
	pid := cmd.Process.Pid
	go func() { _ = cmd.Wait() }() // so that a child that dies while we live does not stay a zombie
	return pid, nil
}

// runAs runs a program to its end and returns what it printed.
func runAs(ctx context.Context, dir string, as *credential, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.SysProcAttr = dir, as.attr()
	out, err := cmd.CombinedOutput()
	return string(out), err //nolint:wrapcheck // wrapped by the callers
}

// startTime tells a process from a later one with the same pid: jiffies since boot on Linux, a date elsewhere. Empty if
// there is no such process, or only its zombie.
func startTime(pid int) string {
	if runtime.GOOS == "linux" {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil {
			return ""
		}
		// The second field is the name in parentheses and may hold anything; the start time is the 22nd.
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(fields) < 20 || fields[0] == "Z" {
			return ""
		}
		return fields[19]
	}
	out, err := exec.Command("ps", "-o", "lstart=", "-p", strconv.Itoa(pid)).Output() //nolint:noctx // a number
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// terminate asks a process to end. Postgres takes SIGINT as its fast shutdown; SIGTERM would wait for clients.
func terminate(pid int, postgres bool) error {
	sig := syscall.SIGTERM
	if postgres {
		sig = syscall.SIGINT
	}
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal: %w", err)
	}
	return nil
}

func kill(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill: %w", err)
	}
	return nil
}

// lock keeps two commands from working on one folder at once. It also refuses a folder of somebody else's.
func (s *stack) lock() (func(), error) {
	if err := os.MkdirAll(s.Dir, 0o755); err != nil { //nolint:gosec // the server's other user must reach its data
		return nil, fmt.Errorf("make the stack's folder: %w", err)
	}
	info, err := os.Lstat(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("look at the stack's folder: %w", err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || (ok && int(st.Uid) != os.Geteuid()) {
		return nil, fmt.Errorf("%s is not a folder of ours; choose another with --dir", s.Dir)
	}
	// Beside the folder, which Down removes.
	f, err := os.OpenFile(strings.TrimRight(s.Dir, "/")+".lock", os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the stack's lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another command works on the stack in %s: %w", s.Dir, err)
	}
	return func() { _ = os.Remove(f.Name()); _ = f.Close() }, nil
}

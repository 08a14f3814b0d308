package native

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// pom pins what Maven brings.
//
//go:embed pom.xml
var pom []byte

// resolve brings the jars, once per version of the pom, and returns their folder.
func (s *stack) resolve(ctx context.Context) (string, error) {
	return s.maven(ctx, "stack", "kafka")
}

// maven runs the pom into a folder of the cache named after its hash, unless that was done before. expect is a folder
// that the run leaves.
func (s *stack) maven(ctx context.Context, kind, expect string, options ...string) (string, error) {
	for _, program := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", fmt.Errorf("%s (a JDK of 17 or newer and Maven bring and run Kafka): %w", program, ErrMissing)
		}
	}
	sum := sha256.Sum256(pom)
	lib := filepath.Join(s.CacheDir, kind+"-"+hex.EncodeToString(sum[:6]))
	done := filepath.Join(lib, ".complete")
	if _, err := os.Stat(done); err == nil {
		return lib, nil
	}
	s.log.Info("resolving from Maven Central; the first time takes a few minutes", "into", lib)
	if err := os.MkdirAll(lib, 0o755); err != nil { //nolint:gosec // jars are no secret
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	file := filepath.Join(lib, "pom.xml")
	if err := os.WriteFile(file, pom, 0o644); err != nil { //nolint:gosec // nor is the pom
		return "", fmt.Errorf("write the pom: %w", err)
	}
	args := append([]string{"-B", "-q", "-f", file, "-DoutputDirectory=" + lib}, options...)
	if out, err := runAs(ctx, lib, nil, "mvn", append(args, "package")...); err != nil {
		return "", fmt.Errorf("resolve the stack with Maven: %w\n%s", err, lastLines(out, 15))
	}
	if _, err := os.Stat(filepath.Join(lib, expect)); err != nil {
		return "", fmt.Errorf("run Maven: it ended without bringing %s: %w", expect, err)
	}
	if err := os.WriteFile(done, nil, 0o644); err != nil { //nolint:gosec // empty
		return "", fmt.Errorf("note that the cache is complete: %w", err)
	}
	return lib, nil
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// minPostgres is the oldest major version that is taken from this machine.
const minPostgres = 14

// usualPlaces are where packages put Postgres's servers: Debian, Red Hat, Homebrew (two prefixes), Postgres.app, asdf.
var usualPlaces = []string{
	"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin", "$HOME/.asdf/installs/postgres/*/bin",
}

// postgresBin finds the newest local binaries that serve, or brings some with Maven.
func (s *stack) postgresBin(ctx context.Context) (string, error) {
	if s.PostgresBin != "" {
		if v := majorVersion(ctx, s.PostgresBin); v < minPostgres {
			return "", fmt.Errorf("--postgres-bin %s holds no Postgres of %d or newer: %w", s.PostgresBin, minPostgres, ErrMissing)
		}
		return s.PostgresBin, nil
	}
	var candidates []string
	if p, err := exec.LookPath("postgres"); err == nil {
		candidates = append(candidates, filepath.Dir(p))
	}
	for _, pattern := range usualPlaces {
		found, _ := filepath.Glob(os.ExpandEnv(pattern)) // fails on a bad pattern only
		candidates = append(candidates, found...)
	}
	best, version := "", minPostgres-1
	for _, dir := range candidates {
		if v := majorVersion(ctx, dir); v > version {
			best, version = dir, v
		}
	}
	if best != "" {
		return best, nil
	}
	return s.mavenPostgres(ctx)
}

// majorVersion asks a folder's postgres for its version; 0 if there is none or no initdb beside it.
func majorVersion(ctx context.Context, dir string) int {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return 0
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(out)) // postgres (PostgreSQL) 17.5
	if len(fields) < 3 {
		return 0
	}
	major, _, _ := strings.Cut(fields[2], ".")
	v, _ := strconv.Atoi(strings.TrimRight(major, "abcdefghijklmnopqrstuvwxyz")) // 18beta1
	return v
}

// mavenPostgres brings the binaries that zonky.io packs, and unpacks them where an unprivileged user can reach them.
func (s *stack) mavenPostgres(ctx context.Context) (string, error) {
	platforms := map[string]string{
		"linux/amd64": "linux-amd64", "linux/arm64": "linux-arm64v8", "darwin/amd64": "darwin-amd64", "darwin/arm64": "darwin-arm64v8",
	}
	platform, ok := platforms[runtime.GOOS+"/"+runtime.GOARCH]
	if !ok {
		return "", fmt.Errorf("find Postgres %d or newer: none is packed for %s/%s: %w", minPostgres, runtime.GOOS, runtime.GOARCH, ErrMissing)
	}
	lib, err := s.maven(ctx, "postgres", "postgres", "-Ppostgres", "-Dpostgres.platform="+platform)
	if err != nil {
		return "", fmt.Errorf("no Postgres %d or newer on PATH or in the usual places; bring one: %w", minPostgres, err)
	}
	packed, err := filepath.Glob(filepath.Join(lib, "postgres", "*.txz"))
	if err != nil || len(packed) != 1 {
		return "", fmt.Errorf("the package of Postgres for %s holds %d archives, not one", platform, len(packed))
	}
	to := filepath.Join(s.Dir, "postgres-bin")
	if err := os.MkdirAll(to, 0o755); err != nil { //nolint:gosec // the server's user must reach it
		return "", fmt.Errorf("make the folder of the binaries: %w", err)
	}
	if out, err := runAs(ctx, to, nil, "tar", "-xJf", slices.Clone(packed)[0]); err != nil {
		return "", fmt.Errorf("unpack Postgres (tar with xz is needed): %w\n%s", err, out)
	}
	return filepath.Join(to, "bin"), nil
}

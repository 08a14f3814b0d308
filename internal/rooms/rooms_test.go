// Package rooms holds the imports between the packages against the table of rooms in docs/architecture.md.
package rooms

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/cdcseed/cdcseed/"

type pkg struct {
	ImportPath string
	Doc        string
	Imports    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Doc", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

// table reads the rooms and what of ours they may import from the architecture: | `room/` | purpose | `a`, `b` |
func table(t *testing.T) map[string][]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	rooms := map[string][]string{}
	name := regexp.MustCompile("`([a-z/]+?)/?`")
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			continue
		}
		room := name.FindStringSubmatch(cells[1])
		if room == nil {
			continue
		}
		rooms[room[1]] = []string{}
		if strings.Contains(cells[3], "all") {
			rooms[room[1]] = nil
		}
		for _, m := range name.FindAllStringSubmatch(cells[3], -1) {
			rooms[room[1]] = append(rooms[room[1]], m[1])
		}
	}
	return rooms
}

func TestImportsAreTheTables(t *testing.T) {
	t.Parallel()
	rooms := table(t)
	seen := map[string]bool{}
	for _, p := range packages(t) {
		room := strings.TrimPrefix(p.ImportPath, module)
		if strings.HasPrefix(room, "internal/") {
			continue // helps tests; nothing imports it
		}
		allowed, ok := rooms[room]
		if !ok {
			t.Errorf("%s is in no room of docs/architecture.md", room)
			continue
		}
		seen[room] = true
		for _, i := range p.Imports {
			ours, isOurs := strings.CutPrefix(i, module)
			if isOurs && allowed != nil && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s; docs/architecture.md allows %v", room, ours, allowed)
			}
			if isOurs && strings.HasPrefix(ours, "internal/") {
				t.Errorf("%s imports %s, which is for tests", room, ours)
			}
			if strings.HasPrefix(i, "github.com/urfave/cli") && !strings.HasPrefix(room, "cmd/") {
				t.Errorf("%s reads flags; only cmd does", room)
			}
		}
		if p.Doc == "" {
			t.Errorf("%s has no package comment", room)
		}
	}
	for room := range rooms {
		if !seen[room] {
			t.Errorf("docs/architecture.md tells of %s, which does not exist", room)
		}
	}
}

// main delegates, and the file stays short.
func TestMainIsShort(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join("..", "..", "cmd", "cdcseed", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "\n"); n > 25 {
		t.Errorf("main.go has %d lines", n)
	}
}

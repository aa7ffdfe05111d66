// The judge of other people's clients: small programs of Python's etcd3 and etcd3gw, Node's etcd3, Java's jetcd and
// Rust's etcd-client run against our server, each on a member of its own; and curl calls every JSON route.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"stanchion.invalid/conformance/internal/harness"
)

// program is one client's; what it prints is one line for each thing that worked.
type program struct {
	name  string
	lines int
	args  func(work string, member *harness.Etcd, temp string) []string
}

var programs = []program{
	{"python", 12, func(work string, member *harness.Etcd, temp string) []string {
		return []string{filepath.Join(work, "python/bin/python"), filepath.Join(work, "../clients/python/judge.py"), member.Address(), temp}
	}},
	{"node", 6, func(work string, member *harness.Etcd, _ string) []string {
		return []string{"node", filepath.Join(work, "clients/node/judge.js"), member.Address()}
	}},
	{"java", 7, func(work string, member *harness.Etcd, _ string) []string {
		java := filepath.Join(work, "clients/java/target")
		return []string{"java", "-cp", java + "/conformance-java-1.jar:" + java + "/dependency/*", "Judge", member.Address()}
	}},
	{"rust", 7, func(work string, member *harness.Etcd, _ string) []string {
		return []string{filepath.Join(work, "clients/rust/target/debug/stanchion-conformance-rust"), member.Address()}
	}},
}

func main() {
	harness.Run("clients", func(j *harness.Judge) error {
		for _, p := range programs {
			out, err := run(j, p)
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if err == nil && len(lines) != p.lines {
				err = fmt.Errorf("%d lines, %d expected", len(lines), p.lines)
			}
			j.Check(err, "%s: %s", p.name, strings.Join(lines, "; "))
		}
		return curl(j)
	})
}

func run(j *harness.Judge, p program) (string, error) {
	member, err := harness.Start(harness.Ours, j.Temp(p.name, "data"))
	if err != nil {
		return "", err
	}
	defer member.Kill()
	args := p.args(filepath.Join(harness.Root(), ".work"), member, j.Temp(p.name, "file"))
	ctx, cancel := context.WithTimeout(context.Background(), 2*harness.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var out, errors bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errors
	if err := cmd.Run(); err != nil {
		said := errors.String()
		return out.String(), fmt.Errorf("%w: %s", err, said[max(0, len(said)-1500):])
	}
	return out.String(), nil
}

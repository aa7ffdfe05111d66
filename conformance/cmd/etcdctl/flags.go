package main

import (
	"errors"
	"os/exec"
	"regexp"
	"strings"

	"stanchion.invalid/conformance/internal/harness"
)

var flagInHelp = regexp.MustCompile(`(?m)^ +--?([a-z0-9-]+)`)

// serverFlags checks that our server takes or refuses the same flags of the server itself that etcd 3.7 does: all that
// its help names, and its own help and version.
func serverFlags(report func(error, string, ...any)) {
	// Its exit code does not matter: help is an error to some releases.
	help, _ := exec.Command(harness.Tool("3.7", "etcd"), "--help").CombinedOutput()
	names := flagInHelp.FindAllStringSubmatch(string(help), -1)
	var differ []error
	for _, name := range names {
		if known("3.7", name[1]) != known(harness.Ours, name[1]) {
			differ = append(differ, errors.New("--"+name[1]))
		}
	}
	if len(names) < 100 {
		differ = append(differ, errors.New("the help of etcd 3.7 names hardly any flag"))
	}
	report(errors.Join(differ...), "%d flags of the server are known where etcd 3.7 knows them", len(names))
}

// known tells whether a server has a flag; a malformed value or --version ends the program either way.
func known(release, flag string) bool {
	said, _ := exec.Command(harness.Tool(release, "etcd"), "--"+flag+"=\x01", "--version").CombinedOutput()
	return !strings.Contains(string(said), "flag provided but not defined")
}

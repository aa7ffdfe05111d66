// Package harness is what the judges share: where things are, a temporary place, a report, and commands that are run.
//
// What may not live here: an opinion on any format. Each judge brings its own.
package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Judge collects what one judge found.
type Judge struct {
	name  string
	began time.Time
	temp  string
	// Parts of a judge may run side by side.
	lock   sync.Mutex
	checks int
	failed int
}

// Run runs one judge to its end and exits: with 1 if a check failed or the judge itself could not go on.
func Run(name string, body func(*Judge) error) {
	// A shell starts what runs in its background with SIGINT ignored, and so would everything be that the judge starts,
	// where it ends commands as a user does. What is caught here is not ignored there.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	go func() {
		<-interrupted
		os.Exit(130)
	}()
	temp, err := os.MkdirTemp("", "stanchion-"+name+"-")
	if err != nil {
		fmt.Println("cannot make a temporary directory:", err)
		os.Exit(1)
	}
	j := &Judge{name: name, began: time.Now(), temp: temp}
	err = body(j)
	if err != nil {
		j.failed++
		fmt.Printf("FAIL %s: %v\n", name, err)
	}
	fmt.Printf("%s: %d checks, %d failed, %.1f s\n", name, j.checks, j.failed, time.Since(j.began).Seconds())
	fmt.Printf("%d passed, %d failed\n", max(0, j.checks-j.failed), j.failed)
	if j.failed > 0 {
		fmt.Println("kept:", temp)
		os.Exit(1)
	}
	os.RemoveAll(temp)
}

// Temp names a path in the judge's temporary directory, which a failed judge leaves behind.
func (j *Judge) Temp(parts ...string) string {
	return filepath.Join(append([]string{j.temp}, parts...)...)
}

// Check counts one check and says what it saw.
func (j *Judge) Check(err error, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	j.lock.Lock()
	defer j.lock.Unlock()
	j.checks++
	if err != nil {
		j.failed++
		fmt.Printf("  FAIL %s: %v\n", what, err)
		return
	}
	fmt.Printf("  ok   %s\n", what)
}

// Say prints what the judge does.
func (j *Judge) Say(format string, args ...any) {
	fmt.Printf("  "+format+"\n", args...)
}

// Root is the folder conformance/, which `run` names in the environment; a judge that is started by hand is
// started there.
func Root() string {
	if root := os.Getenv("CONFORMANCE_ROOT"); root != "" {
		return root
	}
	wd, err := os.Getwd()
	if err != nil {
		return "."
	}
	return wd
}

// Tool is a program of one etcd release: etcd, etcdctl or etcdutl.
func Tool(release, program string) string {
	if release == Ours {
		return Binary()
	}
	return filepath.Join(Root(), ".work", "bin", "etcd-"+release, program)
}

// Binary is our server: CONFORMANCE_BINARY, or what the release build made.
func Binary() string {
	if path := os.Getenv("CONFORMANCE_BINARY"); path != "" {
		return path
	}
	return filepath.Join(targetDir(), "release", "stanchion")
}

func targetDir() string {
	if target := os.Getenv("CARGO_TARGET_DIR"); target != "" {
		return target
	}
	return filepath.Join(Root(), "..", "target")
}

// Example is a compiled example program of one of our crates.
func Example(name string) string {
	dir := os.Getenv("CONFORMANCE_EXAMPLES")
	if dir == "" {
		dir = filepath.Join(targetDir(), "release", "examples")
	}
	return filepath.Join(dir, name)
}

// Output runs a command with input and gives its standard output; an error carries what it said.
func Output(input []byte, program string, args ...string) ([]byte, error) {
	cmd := exec.Command(program, args...)
	cmd.Stdin = bytes.NewReader(input)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(errs.String())
		if len(said) > 1500 {
			said = "…" + said[len(said)-1500:]
		}
		return out.Bytes(), fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, said)
	}
	return out.Bytes(), nil
}

// CopyDir copies a directory tree byte by byte.
func CopyDir(from, to string) error {
	return os.CopyFS(to, os.DirFS(from))
}

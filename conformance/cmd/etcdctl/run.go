package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"stanchion.invalid/conformance/internal/harness"
)

// told is how one command ended.
type told struct {
	code   int
	out    string
	errors string
}

// limits let etcdctl wait as long as it takes for a connection and for an answer, instead of two and five seconds: a busy
// machine needs longer now and then. A command itself ends with harness.Patience.
var limits = []string{"--dial-timeout=120s", "--command-timeout=120s"}

// command prepares etcdctl against one side. Words like {lease0} stand for what that side chose.
func (s *session) command(ctx context.Context, side int, args []string) *exec.Cmd {
	words := slices.Concat([]string{"--endpoints=" + s.members[side].Address()}, limits, args)
	for i, w := range words {
		for name, id := range s.names[side] {
			w = strings.ReplaceAll(w, "{"+name+"}", id)
		}
		words[i] = strings.ReplaceAll(w, "{side}", strconv.Itoa(side))
	}
	cmd := exec.CommandContext(ctx, harness.Tool(s.release, "etcdctl"), words...)
	cmd.Dir = s.dir
	cmd.Env = environment(s.release)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// environment asks 3.4 for the third version of the API; later releases have no other and complain of the variable.
func environment(release string) []string {
	if release == "3.4" {
		return append(os.Environ(), "ETCDCTL_API=3")
	}
	return os.Environ()
}

// do runs one command on both sides and compares.
func (s *session) do(args ...string) [2]told { return s.with("", args...) }

// with runs one command that reads input.
func (s *session) with(input string, args ...string) [2]told {
	answers := s.both(input, args...)
	s.compare(args, answers)
	return answers
}

func (s *session) both(input string, args ...string) [2]told {
	s.count++
	var answers [2]told
	var wait sync.WaitGroup
	for side := range answers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
			defer cancel()
			cmd := s.command(ctx, side, args)
			cmd.Stdin = strings.NewReader(input)
			var out, errors bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errors
			_ = cmd.Run()
			answers[side] = told{cmd.ProcessState.ExitCode(), out.String(), errors.String()}
		}()
	}
	wait.Wait()
	return answers
}

func (s *session) compare(args []string, answers [2]told) {
	a, b := answers[0], answers[1]
	a.out, a.errors = s.mask(0, a.out), s.mask(0, a.errors)
	b.out, b.errors = s.mask(1, b.out), s.mask(1, b.errors)
	if a != b {
		s.fail("%s\n      etcd %d %.1500q %.600q\n      ours %d %.1500q %.600q", strings.Join(args, " "),
			a.code, a.out, a.errors, b.code, b.out, b.errors)
	}
}

var masks = []struct {
	find *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`[0-9.]+(ns|µs|ms|s)\b`), "<time>"},
	{regexp.MustCompile(`"ts":"[^"]*"|"took":"[^"]*"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.0-9]*[^ \t"]*`), "<time>"},
	{regexp.MustCompile(`etcd-endpoints://0x[0-9a-f]+|endpoint://client-[0-9a-f-]+|LocalAddr: '[^']*'|passthrough:///`), "<connection>"},
	{regexp.MustCompile(`"caller":"[^"]*"|"logger":"[^"]*",?`), ""},
	{regexp.MustCompile(`[0-9.]+ [kMG]?B\b`), "<size>"},
	{regexp.MustCompile(`(?i)("(db_?size|db_?size_?in_?use|raft_?index|raft_?applied_?index|RaftIndex|RaftAppliedIndex|DBSize|DBSizeInUse)" ?: ?)\d+`), "$1<n>"},
	{regexp.MustCompile(`("TTL" : |"ttl":|remaining\()\d+`), "$1<seconds>"},
	{regexp.MustCompile(` *(│|\|) *`), "|"},
	{regexp.MustCompile(`─+|-{3,}`), "-"},
	{regexp.MustCompile(`[0-9]+%`), "<percent>"},
	// Rows hold lease ids, which each side chose; without them the differential judge compares hashes.
	{regexp.MustCompile(`("Hash" : |"hash":)\d+`), "$1<hash>"},
	{regexp.MustCompile(`(<address>[,|] *)\d{5,}([,|\s])`), "$1<hash>$2"},
	{regexp.MustCompile(`\b3\.7\.[1-9]\d*\b`), "<version>"},
}

// mask puts names for what each side chose for itself.
func (s *session) mask(side int, text string) string {
	m := s.members[side]
	text = strings.ReplaceAll(text, m.Address(), "<address>")
	for name, id := range s.names[side] {
		text = strings.ReplaceAll(text, id, "{"+name+"}")
		if n, err := strconv.ParseUint(id, 16, 64); err == nil {
			text = strings.ReplaceAll(text, strconv.FormatInt(int64(n), 10), "{"+name+"}")
		}
	}
	for _, mask := range masks {
		text = mask.find.ReplaceAllString(text, mask.with)
	}
	return text
}

// formats are those that every command has.
var formats = []string{"simple", "json", "fields", "protobuf"}

// every runs a command once in each format.
func (s *session) every(args ...string) {
	for _, format := range formats {
		s.do(append([]string{"-w", format}, args...)...)
	}
}

var granted = regexp.MustCompile(`lease ([0-9a-f]+) granted`)

// grant gives a lease on both sides, under the name that it returns.
func (s *session) grant(ttl string) string {
	answers := s.both("", "lease", "grant", ttl)
	name := fmt.Sprintf("lease%d", s.leases)
	s.leases++
	for side, a := range answers {
		m := granted.FindStringSubmatch(a.out)
		if m == nil {
			s.fail("lease grant on side %d: %q %q", side, a.out, a.errors)
			return name
		}
		s.names[side][name] = m[1]
	}
	s.compare([]string{"lease", "grant", ttl}, answers)
	return name
}

// running is one command that goes on until it is told to end.
type running struct {
	cmds  [2]*exec.Cmd
	lines [2]chan string
	args  []string
}

// start starts a long command on both sides.
func (s *session) start(args ...string) *running {
	s.count++
	r := &running{args: args}
	for side := range r.cmds {
		cmd := s.command(context.Background(), side, args)
		pipe, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		r.lines[side] = make(chan string, 1000)
		if err != nil {
			s.fail("%s: %v", strings.Join(args, " "), err)
			close(r.lines[side])
			continue
		}
		r.cmds[side] = cmd
		go func() {
			reader := bufio.NewScanner(pipe)
			for reader.Scan() {
				r.lines[side] <- reader.Text()
			}
			close(r.lines[side])
		}()
	}
	return r
}

// expect reads so many lines from both and compares them.
func (s *session) expect(r *running, lines int) {
	var got [2][]string
	for side := range got {
		limit := time.After(harness.Patience)
		for open := true; open && len(got[side]) < lines; {
			select {
			case line, more := <-r.lines[side]:
				if open = more; more {
					got[side] = append(got[side], s.mask(side, line))
				}
			case <-limit:
				open = false
			}
		}
	}
	a, b := strings.Join(got[0], "\n"), strings.Join(got[1], "\n")
	if a != b || len(got[0]) != lines {
		s.fail("%s: %d lines expected\n      etcd %q\n      ours %q", strings.Join(r.args, " "), lines, a, b)
	}
}

// end interrupts both and compares how they end.
func (s *session) end(r *running) {
	var codes [2]int
	for side, cmd := range r.cmds {
		if cmd == nil {
			continue
		}
		_ = cmd.Process.Signal(os.Interrupt)
		kill := time.AfterFunc(harness.Patience, func() { _ = cmd.Process.Kill() })
		for range r.lines[side] {
		}
		_ = cmd.Wait()
		kill.Stop()
		codes[side] = cmd.ProcessState.ExitCode()
	}
	if codes[0] != codes[1] {
		s.fail("%s: ended with %d, ours %d", strings.Join(r.args, " "), codes[0], codes[1])
	}
}

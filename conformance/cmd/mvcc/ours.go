package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"stanchion.invalid/conformance/internal/harness"
)

const (
	scriptSteps = 1200
	commitEvery = 90
)

// judgeOurs runs a script on a release and on our store, and lets the release serve what our store wrote.
func judgeOurs(j *harness.Judge, release string) error {
	db := j.Temp(release, "ours.db")
	told, err := runBoth(j, release, db)
	if err != nil {
		return err
	}
	compare(j, "the script of etcd "+release, db, told)
	checkFile(j, release, db, told)
	return serve(j, release, db, told)
}

// runBoth gives the release's answers in the end.
func runBoth(j *harness.Judge, release, db string) (answers, error) {
	member, err := harness.Start(release, j.Temp(release, "script"))
	if err != nil {
		return answers{}, err
	}
	defer member.Kill()
	c, err := member.Client()
	if err != nil {
		return answers{}, err
	}
	defer c.Close()
	ours, err := startOps(db)
	if err != nil {
		return answers{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*harness.Patience)
	defer cancel()
	revision, err := runSteps(ctx, c, ours, newScript(5, scriptSteps))
	if endErr := ours.end(); err == nil {
		err = endErr
	}
	j.Check(err, "etcd %s and our store are at the same revision after each of %d requests, in the end %d", release,
		scriptSteps, revision)
	return ask(ctx, member, c)
}

func runSteps(ctx context.Context, c *clientv3.Client, ours *ops, steps []step) (int64, error) {
	revision := int64(1)
	for i, s := range steps {
		if i%commitEvery == commitEvery-1 {
			if _, err := ours.do("commit"); err != nil {
				return revision, err
			}
		}
		if s.text == compaction {
			at := revision - s.back
			_, err := c.Compact(ctx, max(at, 1), clientv3.WithCompactPhysical())
			_, oursErr := ours.do(fmt.Sprintf("%s %d", compaction, max(at, 1)))
			if (err == nil) != (oursErr == nil) {
				return revision, fmt.Errorf("compaction at %d: etcd %v, ours %v", at, err, oursErr)
			}
			continue
		}
		theirs, err := s.run(ctx, c)
		if err != nil {
			return revision, fmt.Errorf("request %d on etcd: %w", i, err)
		}
		answer, err := ours.do(s.text)
		if err != nil {
			return revision, fmt.Errorf("request %d: %w", i, err)
		}
		if want := fmt.Sprint(theirs); answer != want {
			return revision, fmt.Errorf("after request %d %.60q our store is at %s, etcd at %s", i, s.text, answer, want)
		}
		revision = theirs
	}
	return revision, nil
}

// checkFile asks bbolt, and etcdutl where the release has it.
func checkFile(j *harness.Judge, release, db string, told answers) {
	_, err := harness.Output(nil, filepath.Join(harness.Root(), ".work", "bin", "bbolt"), "check", db)
	j.Check(err, "bbolt check finds nothing in our database")
	status, err := inspect(db, "status")
	if err != nil {
		j.Check(err, "mvcc-inspect status")
		return
	}
	program := utility(release)
	out, err := harness.Output(nil, program, "snapshot", "status", "-w", "fields", db)
	if err == nil {
		err = agrees(string(out), map[string]string{
			`"Revision" : `: fmt.Sprint(told.revision), `"Hash" : `: line(status, "snapshot_hash "),
		})
	}
	j.Check(err, "etcd %s: snapshot status of our database: its revision and our hash", release)
	// 3.6 has the command, but it dies of any key that is attached to a lease.
	if release < "3.7" {
		return
	}
	for revision, want := range told.hashes {
		out, err := harness.Output(nil, program, "hashkv", "--rev", fmt.Sprint(revision), "-w", "fields", db)
		if err == nil {
			err = agrees(string(out), map[string]string{`"Hash" : `: line(want, "hash ")})
		}
		j.Check(err, "etcdutl %s: hashkv of our database at %d", release, revision)
	}
}

// utility is the program that works on files: etcdctl before there was etcdutl.
func utility(release string) string {
	if release == "3.4" {
		return harness.Tool(release, "etcdctl")
	}
	return harness.Tool(release, "etcdutl")
}

// serve restores our database as a snapshot and compares the answers of the release that serves it.
func serve(j *harness.Judge, release, db string, told answers) error {
	dir := j.Temp(release, "served")
	_, err := harness.Output(nil, utility(release), "snapshot", "restore", db, "--skip-hash-check", "--name=judge",
		"--data-dir="+dir, "--initial-advertise-peer-urls="+harness.PeerURL, "--initial-cluster=judge="+harness.PeerURL,
		"--initial-cluster-token=conformance")
	j.Check(err, "etcd %s: snapshot restore of our database", release)
	if err != nil {
		return nil
	}
	member, err := harness.Start(release, dir)
	if err != nil {
		return err
	}
	defer member.Kill()
	c, err := member.Client()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	served, err := ask(ctx, member, c)
	if err != nil {
		return err
	}
	if served.revision != told.revision || served.compact != told.compact || served.leases != told.leases {
		err = fmt.Errorf("revision %d, compacted at %d, %d leases", served.revision, served.compact, served.leases)
	}
	j.Check(err, "etcd %s serves our database: revision %d, compacted at %d, %d leases", release, told.revision,
		told.compact, told.leases)
	for revision, want := range told.ranges {
		err := same(want, served.ranges[revision], nil)
		if err == nil {
			err = same(told.hashes[revision], served.hashes[revision], nil)
		}
		j.Check(err, "etcd %s serves our database: all %d pairs and HashKV at %d", release,
			strings.Count(want, "\n")-1, revision)
	}
	return nil
}

// line gives what follows a prefix at the beginning of a line.
func line(text, prefix string) string {
	for _, l := range strings.Split(text, "\n") {
		if rest, found := strings.CutPrefix(l, prefix); found {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// agrees looks for lines with these prefixes and values.
func agrees(text string, want map[string]string) error {
	for prefix, value := range want {
		if have := line(text, prefix); have != value || value == "" {
			return fmt.Errorf("%s%s, expected %q", prefix, have, value)
		}
	}
	return nil
}

// ops is a running mvcc-ops.
type ops struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startOps(db string) (*ops, error) {
	o := &ops{cmd: exec.Command(harness.Example("mvcc-ops"), db)}
	o.cmd.Stderr = os.Stdout
	in, err := o.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := o.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	o.in, o.out = in, bufio.NewReader(out)
	return o, o.cmd.Start()
}

// do sends commands, one per line, and gives what follows the last one's `ok`.
func (o *ops) do(commands string) (string, error) {
	answer := ""
	for _, command := range strings.Split(commands, "\n") {
		if _, err := fmt.Fprintln(o.in, command); err != nil {
			return "", fmt.Errorf("mvcc-ops does not listen: %w", err)
		}
		text, err := o.out.ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("mvcc-ops does not answer: %w", err)
		}
		rest, found := strings.CutPrefix(strings.TrimSpace(text), "ok")
		if !found {
			return "", fmt.Errorf("%.80q: %s", command, strings.TrimSpace(text))
		}
		answer = strings.TrimSpace(rest)
	}
	return answer, nil
}

func (o *ops) end() error {
	o.in.Close()
	return o.cmd.Wait()
}

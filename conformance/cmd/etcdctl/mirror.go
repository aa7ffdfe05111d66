package main

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"stanchion.invalid/conformance/internal/harness"
)

var (
	statusIndexes = regexp.MustCompile(`((?:true|false)[,|] *(?:true|false)[,|] *\d+[,|] *)\d+[,|] *\d+`)
	statusSize    = regexp.MustCompile(`"totalSize":\d+,?|"hash":\d+,`)
)

// mirror copies from etcd to ours and from ours to etcd, under a prefix of its own in the destination, and follows.
func mirror(s *session) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*harness.Patience)
	defer cancel()
	var clients [2]*clientv3.Client
	for side, m := range s.members {
		c, err := m.Client()
		if err != nil {
			s.fail("%v", err)
			return
		}
		defer c.Close()
		clients[side] = c
	}
	for from := range clients {
		to := 1 - from
		s.count++
		dest := fmt.Sprintf("copy%d/", from)
		cmd := s.command(ctx, from, []string{"make-mirror", "--prefix=p/", "--dest-prefix=" + dest, s.members[to].Address()})
		if err := cmd.Start(); err != nil {
			s.fail("%v", err)
			return
		}
		err := follow(ctx, clients[from], clients[to], dest)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err != nil {
			s.fail("make-mirror from side %d: %w", from, err)
		}
	}
	// Both sides wrote the same keys a different number of times: level them for what follows.
	for _, c := range clients {
		if _, err := c.Delete(ctx, "copy", clientv3.WithPrefix()); err != nil {
			s.fail("%v", err)
		}
	}
}

// follow waits for the copy of what was there, then changes the source and waits for those changes too.
func follow(ctx context.Context, from, to *clientv3.Client, dest string) error {
	source, err := from.Get(ctx, "p/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	want := map[string]string{}
	for _, kv := range source.Kvs {
		want[dest+string(kv.Key)[2:]] = string(kv.Value)
	}
	if err := await(ctx, to, dest, want); err != nil {
		return err
	}
	for i := range 20 {
		key := fmt.Sprintf("p/new/%d", i)
		if _, err := from.Put(ctx, key, "v"); err != nil {
			return err
		}
		if i%2 == 0 {
			if _, err := from.Delete(ctx, key); err != nil {
				return err
			}
		} else {
			want[dest+key[2:]] = "v"
		}
	}
	return await(ctx, to, dest, want)
}

func await(ctx context.Context, c *clientv3.Client, prefix string, want map[string]string) error {
	for {
		got, err := c.Get(ctx, prefix, clientv3.WithPrefix())
		if err != nil {
			return err
		}
		same := len(got.Kvs) == len(want)
		for _, kv := range got.Kvs {
			same = same && want[string(kv.Key)] == string(kv.Value)
		}
		if same {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d keys under %s, %d expected", len(got.Kvs), prefix, len(want))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// checks runs etcdctl's own checks against ours: ten thousand keys, and a minute of steady puts. That they are carried out
// without an error is the question here, not their verdict on the speed of a machine that others use too.
func checks(j *harness.Judge, report func(error, string, ...any)) {
	if *only != "" && *only != "3.7" {
		return
	}
	member, err := harness.Start(harness.Ours, j.Temp("checks"), "--unsafe-no-fsync")
	if err != nil {
		report(err, "etcdctl check: start")
		return
	}
	defer member.Kill()
	for _, args := range [][]string{{"check", "datascale", "--load=s"}, {"check", "perf", "--load=s"}} {
		words := slices.Concat([]string{"--endpoints=" + member.Address()}, limits, args)
		out, err := harness.Output(nil, harness.Tool("3.7", "etcdctl"), words...)
		if err != nil && onlySlow(out) {
			err = nil
		}
		report(err, "etcdctl 3.7: %v: %s", args, lastLine(out))
	}
}

// verdicts are the lines of `check perf` that judge figures, with what comes before them when they are bad.
var (
	verdict = regexp.MustCompile(`(?m)(Throughput|Slowest request|Stddev) .*$`)
	slow    = regexp.MustCompile(`^(Throughput too low|Slowest request took too long|Stddev too high): `)
	failure = regexp.MustCompile(`(?m)FAIL.+$`)
)

// onlySlow tells whether nothing failed but the speed: all three figures are there, and no other failure is named.
func onlySlow(out []byte) bool {
	for _, line := range failure.FindAll(out, -1) {
		if !slow.Match(bytes.TrimPrefix(line, []byte("FAIL: "))) {
			return false
		}
	}
	return len(verdict.FindAll(out, -1)) == 3
}

func lastLine(out []byte) string {
	var last string
	for _, line := range regexp.MustCompile(`(?m)(PASS|FAIL|Slowest request took|Stddev too).*$`).FindAll(out, -1) {
		last += string(line) + "; "
	}
	return last
}

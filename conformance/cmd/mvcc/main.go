// The judge of `mvcc`, in both directions. Databases of real etcd releases with deletes, compactions and leases are
// opened by our store, which must give the same pairs at the same revisions, and the same HashKV, as the release gave
// while it ran. And the requests of a script go to a release and to our store alike (`mvcc-ops`): after each both must be
// at the same revision, in the end both must give the same answers, etcd's and bbolt's tools must find nothing wrong with
// our file, and the release must serve it.
package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"stanchion.invalid/conformance/internal/harness"
)

// revisionsAsked is the number of past revisions at which a release and our store are compared.
const revisionsAsked = 12

func main() {
	harness.Run("mvcc", func(j *harness.Judge) error {
		for _, release := range harness.Releases {
			db, told, err := liveAnswers(j, release)
			if err != nil {
				return err
			}
			compare(j, "etcd "+release, db, told)
			if err := judgeOurs(j, release); err != nil {
				return fmt.Errorf("our database and etcd %s: %w", release, err)
			}
		}
		return nil
	})
}

// answers is what a release told of its store, in the words of mvcc-inspect.
type answers struct {
	revision, compact int64
	leases            int
	hashes            map[int64]string
	ranges            map[int64]string
}

// liveAnswers lets a release write a history, asks it, and ends it orderly so that its database is complete.
func liveAnswers(j *harness.Judge, release string) (string, answers, error) {
	dir := j.Temp(release, "data")
	member, err := harness.Start(release, dir, "--snapshot-count=200")
	if err != nil {
		return "", answers{}, err
	}
	defer member.Kill()
	c, err := member.Client()
	if err != nil {
		return "", answers{}, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*harness.Patience)
	defer cancel()
	if err := harness.NewHistory(11).Write(ctx, c, 1500); err != nil {
		return "", answers{}, err
	}
	if err := nest(ctx, c); err != nil {
		return "", answers{}, err
	}
	told, err := ask(ctx, member, c)
	if err != nil {
		return "", answers{}, err
	}
	if err := member.Stop(); err != nil {
		return "", answers{}, err
	}
	return filepath.Join(dir, "member", "snap", "db"), told, nil
}

// nest makes transactions inside transactions: their changes stand under one main revision.
func nest(ctx context.Context, c *clientv3.Client) error {
	for i := range 40 {
		key := func(n int) string { return fmt.Sprintf("nested/%02d", (7*i+n)%12) }
		innermost := clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut(key(1), "innermost"), clientv3.OpDelete(key(2))}, nil)
		inner := clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.Version(key(0)), "=", 0)},
			[]clientv3.Op{clientv3.OpPut(key(3), "new"), innermost}, []clientv3.Op{innermost, clientv3.OpDelete(key(4))})
		if _, err := c.Txn(ctx).Then(clientv3.OpPut(key(5), "outer"), inner).Commit(); err != nil {
			return fmt.Errorf("nested transaction %d: %w", i, err)
		}
	}
	return nil
}

func ask(ctx context.Context, member *harness.Etcd, c *clientv3.Client) (answers, error) {
	state, err := harness.ReadState(member)
	if err != nil {
		return answers{}, err
	}
	told := answers{revision: state.Revision, compact: state.Compact, leases: len(state.Leases),
		hashes: map[int64]string{}, ranges: map[int64]string{}}
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range revisionsAsked {
		revision := state.Revision
		if i > 0 {
			revision -= rng.Int64N(state.Revision - max(state.Compact, 1))
		}
		hash, err := c.HashKV(ctx, member.Endpoint, revision)
		if err != nil {
			return answers{}, fmt.Errorf("hash at %d: %w", revision, err)
		}
		told.hashes[revision] = fmt.Sprintf("hash %d\nhash_revision %d\ncompact_revision %d\n",
			hash.Hash, revision, hash.CompactRevision)
		found, err := c.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(revision))
		if err != nil {
			return answers{}, fmt.Errorf("range at %d: %w", revision, err)
		}
		told.ranges[revision] = describe(found)
	}
	return told, nil
}

// describe writes a range as mvcc-inspect does.
func describe(found *clientv3.GetResponse) string {
	var out strings.Builder
	for _, kv := range found.Kvs {
		fmt.Fprintf(&out, "%s create=%d mod=%d version=%d lease=%d value=%s\n", escape(kv.Key), kv.CreateRevision,
			kv.ModRevision, kv.Version, kv.Lease, escape(kv.Value))
	}
	fmt.Fprintf(&out, "count %d\n", found.Count)
	return out.String()
}

// escape writes bytes as Rust's escape_ascii does.
func escape(text []byte) string {
	var out strings.Builder
	for _, b := range text {
		switch {
		case b == '\t':
			out.WriteString(`\t`)
		case b == '\r':
			out.WriteString(`\r`)
		case b == '\n':
			out.WriteString(`\n`)
		case b == '\'' || b == '"' || b == '\\':
			out.WriteByte('\\')
			out.WriteByte(b)
		case b >= 0x20 && b < 0x7f:
			out.WriteByte(b)
		default:
			fmt.Fprintf(&out, `\x%02x`, b)
		}
	}
	return out.String()
}

func compare(j *harness.Judge, what, db string, told answers) {
	out, err := inspect(db, "status")
	for _, want := range []string{fmt.Sprintf("revision %d", told.revision),
		fmt.Sprintf("compact_revision %d", told.compact), fmt.Sprintf("leases %d", told.leases)} {
		if err == nil && !strings.Contains("\n"+out, "\n"+want+"\n") {
			err = fmt.Errorf("no line %q in %q", want, out)
		}
	}
	j.Check(err, "%s: our store opens its database: revision %d, compacted at %d, %d leases", what, told.revision,
		told.compact, told.leases)
	for revision, want := range told.hashes {
		out, err := inspect(db, "hashkv", fmt.Sprint(revision))
		j.Check(same(want, out, err), "%s: HashKV at %d", what, revision)
	}
	for revision, want := range told.ranges {
		out, err := inspect(db, "range", "--rev", fmt.Sprint(revision))
		j.Check(same(want, out, err), "%s: all %d pairs at %d", what, strings.Count(want, "\n")-1, revision)
	}
}

func inspect(db string, arguments ...string) (string, error) {
	out, err := harness.Output(nil, harness.Example("mvcc-inspect"), append([]string{db}, arguments...)...)
	return string(out), err
}

func same(want, have string, err error) error {
	if err != nil || want == have {
		return err
	}
	wants, haves := strings.Split(want, "\n"), strings.Split(have, "\n")
	for i := range wants {
		if i >= len(haves) || wants[i] != haves[i] {
			return fmt.Errorf("line %d is %.150q, expected %.150q", i+1, strings.Join(haves[min(i, len(haves)):min(i+1, len(haves))], ""), wants[i])
		}
	}
	return fmt.Errorf("%d lines, expected %d", len(haves), len(wants))
}

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"stanchion.invalid/conformance/internal/goread"
	"stanchion.invalid/conformance/internal/harness"
	"stanchion.invalid/conformance/internal/tools"
)

// realDirectory lets a release write a data directory with everything in it that this judge is about: restarts,
// kill -9 under load, compactions, leases, snapshots every 50 entries, full segments.
func realDirectory(j *harness.Judge, release string) (string, error) {
	dir := j.Temp(release, "data")
	ctx := context.Background()
	history := harness.NewHistory(7)
	for round := range 5 {
		member, err := harness.Start(release, dir, "--snapshot-count=50", "--max-wals=0", "--max-snapshots=0")
		if err != nil {
			return "", err
		}
		c, err := member.Client()
		if err != nil {
			return "", err
		}
		if err := history.Write(ctx, c, 150); err != nil {
			return "", fmt.Errorf("etcd %s: %w", release, err)
		}
		if round == 2 {
			// More than a segment holds.
			value := strings.Repeat("v", 1<<20)
			for i := range 66 {
				err := harness.Again(ctx, func(ctx context.Context) error {
					_, err := c.Put(ctx, fmt.Sprintf("big/%d", i%4), value)
					return err
				})
				if err != nil {
					return "", err
				}
			}
		}
		if round%2 == 0 {
			err = member.Stop()
		} else {
			killUnderLoad(member)
		}
		c.Close()
		if err != nil {
			return "", err
		}
	}
	return dir, nil
}

// killUnderLoad ends the member with SIGKILL while eight clients write.
func killUnderLoad(member *harness.Etcd) {
	ctx, stop := context.WithCancel(context.Background())
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			c, err := member.Client()
			if err != nil {
				return
			}
			defer c.Close()
			// Ends with the member.
			_ = harness.NewHistory(uint64(100+i)).Write(ctx, c, 1000)
		})
	}
	time.Sleep(300 * time.Millisecond)
	member.Kill()
	stop()
	writers.Wait()
}

// judgeReal compares reading, and starts the release on directories with our copies in it.
func judgeReal(j *harness.Judge, release, dir string) error {
	log := filepath.Join(dir, "member", "wal")
	copies := j.Temp(release, "copies")
	what := "etcd " + release
	compareRecords(j, what, log)
	compareCopies(j, what, log, copies)

	under, err := logUnderDatabase(j, release, dir, filepath.Join(copies, "encoded"))
	if err != nil {
		return err
	}
	if err := tools.Compare(j, release, "log", dir, under); err != nil {
		return err
	}

	// Starting it changes a directory, so the original is only ever copied.
	original := j.Temp(release, "original")
	if err := harness.CopyDir(dir, original); err != nil {
		return err
	}
	want, err := harness.StartAndRead(release, original)
	if err != nil {
		return err
	}
	have, err := harness.StartAndRead(release, under)
	if err == nil {
		err = want.Differs(have)
	}
	j.Check(err, "etcd %s starts on our copy of its log: revision %d, %d keys, hash %d", release, have.Revision,
		len(have.Pairs), have.Hash)
	return judgeLogAlone(j, release, log, want)
}

// logUnderDatabase assembles a directory of the release's own snapshots and database, and our copy of the log.
func logUnderDatabase(j *harness.Judge, release, dir, ours string) (string, error) {
	under := j.Temp(release, "under")
	if err := harness.CopyDir(dir, under); err != nil {
		return "", err
	}
	log := filepath.Join(under, "member", "wal")
	if err := os.RemoveAll(log); err != nil {
		return "", err
	}
	return under, harness.CopyDir(ours, log)
}

// judgeLogAlone assembles a data directory from our log alone: no snapshot, no database. Everything that the release
// then knows came out of our entries.
func judgeLogAlone(j *harness.Judge, release, log string, want harness.State) error {
	alone := j.Temp(release, "alone")
	if err := os.MkdirAll(filepath.Join(alone, "member", "snap"), 0o700); err != nil {
		return err
	}
	copied := filepath.Join(alone, "member", "wal")
	if _, err := harness.Output(nil, harness.Example("wal-copy"), "--drop-snapshots", log, copied); err != nil {
		j.Check(err, "etcd %s: wal-copy without snapshots", release)
		return nil
	}
	records, err := goread.Records(copied)
	if err != nil {
		j.Check(err, "etcd %s: the log without snapshots", release)
		return nil
	}
	have, err := harness.StartAndRead(release, alone)
	if err == nil {
		err = want.Differs(have)
	}
	if err != nil && release == "3.5" && have.Revision > want.Revision {
		// etcd 3.5.0 to 3.5.2 may lose writes to kill -9, because the index of an entry is committed before its data.
		j.Say("etcd 3.5 has lost %d revisions of its database, which its log still has", have.Revision-want.Revision)
		err = nil
	}
	j.Check(err, "etcd %s starts on nothing but our log of %d records and knows every key", release, len(records)-1)
	return nil
}

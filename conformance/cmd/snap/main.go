// The judge of `snap`: snapshot files of real etcd releases are read by our reader and by etcd's package alike, files
// that our writer saved are etcd's byte for byte, each release starts on them, and etcdutl treats them as the release's
// own.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.uber.org/zap"

	"stanchion.invalid/conformance/internal/harness"
	"stanchion.invalid/conformance/internal/tools"
)

func main() {
	harness.Run("snap", func(j *harness.Judge) error {
		for _, release := range harness.Releases {
			dir, err := realDirectory(j, release)
			if err != nil {
				return err
			}
			if err := judge(j, release, dir); err != nil {
				return err
			}
		}
		return nil
	})
}

// realDirectory lets a release write snapshots every 20 entries, and start once on its own.
func realDirectory(j *harness.Judge, release string) (string, error) {
	dir := j.Temp(release, "data")
	history := harness.NewHistory(11)
	for range 2 {
		member, err := harness.Start(release, dir, "--snapshot-count=20", "--max-snapshots=0")
		if err != nil {
			return "", err
		}
		c, err := member.Client()
		if err != nil {
			return "", err
		}
		err = history.Write(context.Background(), c, 150)
		c.Close()
		if stopErr := member.Stop(); err == nil {
			err = stopErr
		}
		if err != nil {
			return "", fmt.Errorf("etcd %s: %w", release, err)
		}
	}
	return dir, nil
}

func judge(j *harness.Judge, release, dir string) error {
	theirs := filepath.Join(dir, "member", "snap")
	saved := j.Temp(release, "saved")
	out, err := harness.Output(nil, harness.Example("snap-copy"), theirs, saved)
	if err != nil {
		j.Check(err, "etcd %s: snap-copy", release)
		return nil
	}
	names, err := filepath.Glob(filepath.Join(theirs, "*.snap"))
	if err != nil {
		return err
	}
	j.Check(sameReading(out, names), "etcd %s: %d snapshots are the same to etcd and to us", release, len(names))
	j.Check(sameBytes(names, saved), "etcd %s: saved again by us they are the same bytes", release)

	original := j.Temp(release, "original")
	ours := j.Temp(release, "ours")
	for _, copied := range []string{original, ours} {
		if err := harness.CopyDir(dir, copied); err != nil {
			return err
		}
	}
	if err := replaceSnapshots(saved, filepath.Join(ours, "member", "snap")); err != nil {
		return err
	}
	if err := tools.Compare(j, release, "snapshots", original, ours); err != nil {
		return err
	}
	want, err := harness.StartAndRead(release, original)
	if err != nil {
		return err
	}
	have, err := harness.StartAndRead(release, ours)
	if err == nil {
		err = want.Differs(have)
	}
	j.Check(err, "etcd %s starts on snapshots that we saved: revision %d, hash %d", release, have.Revision, have.Hash)
	return nil
}

// line is what snap-copy says of one file.
type line struct {
	Name   string
	Term   uint64
	Index  uint64
	Damage string
}

// sameReading compares our output with what etcd's package reads from the same files.
func sameReading(out []byte, names []string) error {
	var lines []line
	scanner := bufio.NewScanner(bytes.NewReader(out))
	for scanner.Scan() {
		var l line
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			return fmt.Errorf("%q: %w", scanner.Text(), err)
		}
		lines = append(lines, l)
	}
	if len(lines) != len(names) || len(names) == 0 {
		return fmt.Errorf("we see %d files, there are %d", len(lines), len(names))
	}
	for i, name := range names {
		snapshot, err := snap.Read(zap.NewNop(), name)
		if err != nil {
			return fmt.Errorf("etcd reads %s: %w", name, err)
		}
		want := line{
			Name:  filepath.Base(name),
			Term:  snapshot.GetMetadata().GetTerm(),
			Index: snapshot.GetMetadata().GetIndex(),
		}
		if lines[i] != want {
			return fmt.Errorf("we read %+v, etcd %+v", lines[i], want)
		}
	}
	return nil
}

func sameBytes(names []string, saved string) error {
	for _, name := range names {
		want, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		have, err := os.ReadFile(filepath.Join(saved, filepath.Base(name)))
		if err != nil {
			return err
		}
		if !bytes.Equal(want, have) {
			return fmt.Errorf("%s differs: %d bytes, expected %d", filepath.Base(name), len(have), len(want))
		}
	}
	return nil
}

// replaceSnapshots puts the files of one directory in the place of another's .snap files.
func replaceSnapshots(from, to string) error {
	entries, err := os.ReadDir(to)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".snap") {
			if err := os.Remove(filepath.Join(to, entry.Name())); err != nil {
				return err
			}
		}
	}
	return harness.CopyDir(from, to)
}

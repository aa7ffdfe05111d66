// Package tools lets etcdutl work on data directories that hold files of ours.
package tools

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.uber.org/zap"
	"stanchion.invalid/conformance/internal/goread"
	"stanchion.invalid/conformance/internal/harness"
)

// Compare lets etcdutl work on copies of a release's own directory and of the same one with our files, which `what`
// names: it must do the same with both. Up to 3.5 `backup` reads snapshot and log and writes new ones; from 3.6 on
// `migrate` reads them to find out which releases understand them.
func Compare(j *harness.Judge, release, what, theirs, ours string) error {
	copies := [2]string{j.Temp(release, "tool-theirs"), j.Temp(release, "tool-ours")}
	for i, dir := range []string{theirs, ours} {
		if err := harness.CopyDir(dir, copies[i]); err != nil {
			return err
		}
	}
	switch release {
	case "3.4", "3.5":
		backup(j, release, what, copies)
	case "3.6":
		migrate(j, release, "3.5", what, copies)
	default:
		migrate(j, release, "3.6", what, copies)
	}
	for _, dir := range copies {
		os.RemoveAll(dir)
	}
	return nil
}

// backup compares the logs and snapshots that etcdutl wrote from the two.
func backup(j *harness.Judge, release, what string, dirs [2]string) {
	var kept [2]int
	var saved [2]string
	for i, dir := range dirs {
		to := j.Temp(release, fmt.Sprintf("backup-%d", i))
		_, err := harness.Output(nil, harness.Tool("3.5", "etcdutl"), "backup", "--data-dir", dir, "--backup-dir", to)
		if err == nil {
			kept[i], saved[i], err = readBackup(to)
		}
		os.RemoveAll(to)
		if err != nil {
			j.Check(err, "etcd %s: etcdutl backup of a directory with our %s", release, what)
			return
		}
	}
	var err error
	if kept[0] != kept[1] || saved[0] != saved[1] {
		err = fmt.Errorf("%d records and %s from its own, %d and %s from ours", kept[0], saved[0], kept[1], saved[1])
	}
	j.Check(err, "etcd %s: etcdutl backup makes the same %d records and snapshot from our %s as from its own", release,
		kept[0], what)
}

// invented matches the ids that etcdutl makes up for a backup's member, as the store of a snapshot spells them.
var invented = regexp.MustCompile(`[0-9a-f]{11,16}`)

// readBackup counts the records of a backup's log and says what its snapshot is of: the place in the log and the sum of
// its store. etcdutl invents a new member for each backup, so the store is summed without that member's id, and neither
// the file's bytes nor its size can be compared: its checksum differs, and with it the length of the checksum's varint.
func readBackup(dir string) (records int, snapshot string, err error) {
	lines, err := goread.Records(filepath.Join(dir, "member", "wal"))
	if err != nil {
		return 0, "", err
	}
	names, err := filepath.Glob(filepath.Join(dir, "member", "snap", "*.snap"))
	if err != nil {
		return 0, "", err
	}
	if len(names) != 1 {
		return 0, "", fmt.Errorf("the backup has %d snapshots", len(names))
	}
	read, err := snap.Read(zap.NewNop(), names[0])
	if err != nil {
		return 0, "", fmt.Errorf("%s: %w", filepath.Base(names[0]), err)
	}
	store := invented.ReplaceAll(read.GetData(), []byte("member"))
	return len(lines), fmt.Sprintf("a store of %d bytes with sum %x at index %d of term %d", len(store),
		sha256.Sum256(store), read.GetMetadata().GetIndex(), read.GetMetadata().GetTerm()), nil
}

// migrate compares whether etcdutl lets the two go back to an older release, and the storage version it leaves.
func migrate(j *harness.Judge, release, target, what string, dirs [2]string) {
	var versions [2]string
	var refusals [2]bool
	for i, dir := range dirs {
		_, err := harness.Output(nil, harness.Tool(release, "etcdutl"), "migrate", "--data-dir", dir,
			"--target-version", target)
		refusals[i] = err != nil
		if versions[i], err = storageVersion(filepath.Join(dir, "member", "snap", "db")); err != nil {
			j.Check(err, "etcd %s: the database after etcdutl migrate", release)
			return
		}
	}
	var err error
	if refusals[0] != refusals[1] || versions[0] != versions[1] {
		err = fmt.Errorf("refused its own %t, ours %t; versions %q and %q", refusals[0], refusals[1], versions[0],
			versions[1])
	}
	done := map[bool]string{true: "refuses", false: "migrates"}[refusals[0]]
	j.Check(err, "etcd %s: etcdutl %s the directory with our %s to %s as it does its own, storage version %q", release,
		done, what, target, versions[1])
}

// storageVersion is what a database says of its own form; empty before 3.6.
func storageVersion(path string) (version string, err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: 10 * time.Second})
	if err != nil {
		return "", err
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		version = string(tx.Bucket([]byte("meta")).Get([]byte("storageVersion")))
		return nil
	})
	return version, err
}

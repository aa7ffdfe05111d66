package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	"stanchion.invalid/conformance/internal/goread"
	"stanchion.invalid/conformance/internal/harness"
)

// judgeTools lets etcdutl work on a release's own directory and on the same one with our copy of its log: it must do
// the same with both. Up to 3.5 `backup` reads the log and writes a new one; from 3.6 on `migrate` reads it to find out
// which releases understand it.
func judgeTools(j *harness.Judge, release, dir, ours string) error {
	theirs, copied := j.Temp(release, "tool-theirs"), j.Temp(release, "tool-ours")
	for _, to := range []string{theirs, copied} {
		if err := harness.CopyDir(dir, to); err != nil {
			return err
		}
	}
	log := filepath.Join(copied, "member", "wal")
	if err := os.RemoveAll(log); err != nil {
		return err
	}
	if err := harness.CopyDir(ours, log); err != nil {
		return err
	}
	switch release {
	case "3.4", "3.5":
		judgeBackup(j, release, theirs, copied)
	case "3.6":
		judgeMigrate(j, release, "3.5", theirs, copied)
	default:
		judgeMigrate(j, release, "3.6", theirs, copied)
	}
	return nil
}

// judgeBackup compares the logs that etcdutl wrote from the two.
func judgeBackup(j *harness.Judge, release, theirs, ours string) {
	var kept [2]int
	for i, dir := range []string{theirs, ours} {
		to := j.Temp(release, fmt.Sprintf("backup-%d", i))
		_, err := harness.Output(nil, harness.Tool("3.5", "etcdutl"), "backup", "--data-dir", dir, "--backup-dir", to)
		if err != nil {
			j.Check(err, "etcd %s: etcdutl backup", release)
			return
		}
		records, err := goread.Records(filepath.Join(to, "member", "wal"))
		if err != nil {
			j.Check(err, "etcd %s: the log of etcdutl backup", release)
			return
		}
		kept[i] = len(records)
	}
	var err error
	if kept[0] != kept[1] {
		err = fmt.Errorf("%d records from its own log, %d from ours", kept[0], kept[1])
	}
	j.Check(err, "etcd %s: etcdutl backup makes the same %d records of our log as of its own", release, kept[0])
}

// judgeMigrate compares whether etcdutl lets the two go back to an older release, and the storage version it leaves.
func judgeMigrate(j *harness.Judge, release, target, theirs, ours string) {
	var versions [2]string
	var refusals [2]bool
	for i, dir := range []string{theirs, ours} {
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
	j.Check(err, "etcd %s: etcdutl %s the directory with our log to %s as it does its own, storage version %q", release,
		done, target, versions[1])
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

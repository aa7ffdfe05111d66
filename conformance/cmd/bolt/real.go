package main

import (
	"context"
	"path/filepath"

	"stanchion.invalid/conformance/internal/harness"
)

// realFiles lets both sides check and dump the databases of real releases.
func realFiles(j *harness.Judge, ours side) error {
	for _, release := range harness.Releases {
		file, err := realFile(j, release)
		if err != nil {
			return err
		}
		j.Check(agree(ours, file), "etcd %s: its database is clean and the same to bbolt and to us", release)
	}
	return nil
}

func realFile(j *harness.Judge, release string) (string, error) {
	dir := j.Temp(release, "data")
	member, err := harness.Start(release, dir, "--snapshot-count=200")
	if err != nil {
		return "", err
	}
	defer member.Kill()
	c, err := member.Client()
	if err != nil {
		return "", err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*harness.Patience)
	defer cancel()
	if err := harness.NewHistory(5).Write(ctx, c, 1000); err != nil {
		return "", err
	}
	return filepath.Join(dir, "member", "snap", "db"), member.Stop()
}

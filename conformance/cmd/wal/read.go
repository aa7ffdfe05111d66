package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"

	"stanchion.invalid/conformance/internal/goread"
	"stanchion.invalid/conformance/internal/harness"
)

// ourRecords runs `wal-dump --json` on a log.
func ourRecords(dir string) ([]goread.Line, error) {
	out, err := harness.Output(nil, harness.Example("wal-dump"), "--json", dir)
	if err != nil {
		return nil, err
	}
	var lines []goread.Line
	scanner := bufio.NewScanner(bytes.NewReader(out))
	scanner.Buffer(nil, 1<<26)
	for scanner.Scan() {
		line := goread.Line{}
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			return nil, fmt.Errorf("%q: %w", scanner.Text(), err)
		}
		lines = append(lines, line)
	}
	return lines, scanner.Err()
}

// compareRecords reads a log with etcd's decoder and with ours.
func compareRecords(j *harness.Judge, what, dir string) {
	theirs, err := goread.Records(dir)
	if err != nil {
		j.Check(err, "%s: etcd reads the log", what)
		return
	}
	ours, err := ourRecords(dir)
	if err == nil && len(ours) != len(theirs) {
		err = fmt.Errorf("%d lines, expected %d", len(ours), len(theirs))
	}
	for i := 0; err == nil && i < len(theirs); i++ {
		err = theirs[i].Unlike(ours[i])
	}
	segments, _ := goread.Segments(dir)
	j.Check(err, "%s: %d records in %d segments are the same to etcd and to wal-dump", what, len(theirs)-1, len(segments))
}

// compareCopies lets our reader and writer copy the log into the folder copies, twice: with entries as they are, and put together anew;
// etcd must get the same out of the copies as out of the original, at the beginning and at some snapshots.
func compareCopies(j *harness.Judge, what, dir, copies string) {
	snapshots, err := goread.Snapshots(dir)
	if err != nil {
		j.Check(err, "%s: etcd finds the snapshots", what)
		return
	}
	snapshots = some(snapshots, 6)
	for _, form := range []string{"encoded", "parts"} {
		copied := filepath.Join(copies, form)
		_, err := harness.Output(nil, harness.Example("wal-copy"), "--entries", form, "--segment-size", "1000000", dir, copied)
		for i := 0; err == nil && i < len(snapshots); i++ {
			err = sameReplay(dir, copied, snapshots[i].GetIndex(), snapshots[i].GetTerm())
		}
		segments, _ := goread.Segments(copied)
		j.Check(err, "%s: etcd replays our copy (%s, %d segments) as it does the original, from %d snapshots", what, form,
			len(segments), len(snapshots))
		if err == nil {
			compareRecords(j, what+", copy "+form, copied)
		}
	}
}

// some picks n evenly, the first and the last among them.
func some[T any](all []T, n int) []T {
	if len(all) <= n {
		return all
	}
	picked := make([]T, n)
	for i := range picked {
		picked[i] = all[i*(len(all)-1)/(n-1)]
	}
	return picked
}

func sameReplay(original, copied string, index, term uint64) error {
	want, err := goread.ReplayAt(original, index, term)
	if err != nil {
		return fmt.Errorf("original at %d/%d: %w", term, index, err)
	}
	have, err := goread.ReplayAt(copied, index, term)
	if err != nil {
		return fmt.Errorf("copy at %d/%d: %w", term, index, err)
	}
	if err := want.Differs(have); err != nil {
		return fmt.Errorf("at %d/%d: %w", term, index, err)
	}
	return nil
}

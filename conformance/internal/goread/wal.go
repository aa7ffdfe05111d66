// Package goread reads files with etcd's own Go packages, so that our readers can be compared with them.
package goread

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
)

// Line is one record as `wal-dump --json` prints it: numbers are float64, as encoding/json decodes them.
type Line map[string]any

// Segments lists a log's segments in order.
func Segments(dir string) ([]string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	sort.Strings(names)
	return names, err
}

// Records reads every record of a log with etcd's decoder, segment by segment so that each has a file and an offset.
func Records(dir string) ([]Line, error) {
	names, err := Segments(dir)
	if err != nil {
		return nil, err
	}
	var lines []Line
	var crc uint32
	for i, name := range names {
		crc, err = segmentRecords(name, crc, i+1 == len(names), &lines)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(name), err)
		}
	}
	return lines, nil
}

func segmentRecords(name string, crc uint32, last bool, lines *[]Line) (uint32, error) {
	file, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	decoder := wal.NewDecoder(fileutil.NewFileReader(file))
	decoder.UpdateCRC(crc)
	for {
		offset := decoder.LastOffset()
		rec := &walpb.Record{}
		err := decoder.Decode(rec)
		if errors.Is(err, io.EOF) || last && errors.Is(err, io.ErrUnexpectedEOF) {
			if last {
				*lines = append(*lines, Line{"kind": "end", "file": filepath.Base(name), "offset": float64(offset),
					"torn": !errors.Is(err, io.EOF)})
			}
			return decoder.LastCRC(), nil
		}
		if err != nil {
			return 0, fmt.Errorf("offset %d: %w", offset, err)
		}
		if rec.GetType() == wal.CrcType {
			if have := decoder.LastCRC(); have != 0 && rec.Validate(have) != nil {
				return 0, fmt.Errorf("offset %d: the chain is %08x, the record says %08x", offset, have, rec.GetCrc())
			}
			decoder.UpdateCRC(rec.GetCrc())
		}
		line, err := recordLine(rec)
		if err != nil {
			return 0, fmt.Errorf("offset %d: %w", offset, err)
		}
		line["file"], line["offset"] = filepath.Base(name), float64(offset)
		*lines = append(*lines, line)
	}
}

func recordLine(rec *walpb.Record) (Line, error) {
	switch rec.GetType() {
	case wal.MetadataType:
		return Line{"kind": "metadata", "size": float64(len(rec.Data)), "data": hex.EncodeToString(rec.Data)}, nil
	case wal.EntryType:
		e := wal.MustUnmarshalEntry(rec.Data)
		kind := map[raftpb.EntryType]string{0: "normal", 1: "conf-change", 2: "conf-change-v2"}[e.GetType()]
		return Line{"kind": "entry", "index": float64(e.GetIndex()), "term": float64(e.GetTerm()), "type": kind,
			"size": float64(len(e.Data))}, nil
	case wal.StateType:
		s := wal.MustUnmarshalState(rec.Data)
		return Line{"kind": "state", "term": float64(s.GetTerm()), "vote": fmt.Sprintf("%x", s.GetVote()),
			"commit": float64(s.GetCommit())}, nil
	case wal.CrcType:
		return Line{"kind": "crc", "crc": fmt.Sprintf("%08x", rec.GetCrc())}, nil
	case wal.SnapshotType:
		s := &walpb.Snapshot{}
		if err := proto.Unmarshal(rec.Data, s); err != nil {
			return nil, err
		}
		line := Line{"kind": "snapshot", "index": float64(s.GetIndex()), "term": float64(s.GetTerm()), "conf_state": nil}
		if s.ConfState != nil {
			line["conf_state"] = "voters " + fmt.Sprint(s.ConfState.GetVoters())
		}
		return line, nil
	default:
		return nil, fmt.Errorf("record type %d", rec.GetType())
	}
}

// Replay is what etcd gets out of a log at one snapshot.
type Replay struct {
	Metadata string
	State    string
	Entries  []string
}

// ReplayAt opens a log read-only at a snapshot and reads everything behind it, as a starting etcd does.
func ReplayAt(dir string, index, term uint64) (Replay, error) {
	w, err := wal.OpenForRead(zap.NewNop(), dir, &walpb.Snapshot{Index: &index, Term: &term})
	if err != nil {
		return Replay{}, err
	}
	defer w.Close()
	metadata, state, entries, err := w.ReadAll()
	if err != nil {
		return Replay{}, err
	}
	r := Replay{Metadata: hex.EncodeToString(metadata),
		State: fmt.Sprintf("term %d vote %x commit %d", state.GetTerm(), state.GetVote(), state.GetCommit())}
	for _, e := range entries {
		r.Entries = append(r.Entries, fmt.Sprintf("%d/%d %s %x", e.GetTerm(), e.GetIndex(), e.GetType(), e.Data))
	}
	return r, nil
}

// Differs names the first thing in which two replays differ.
func (r Replay) Differs(other Replay) error {
	switch {
	case r.Metadata != other.Metadata:
		return fmt.Errorf("metadata %s, expected %s", other.Metadata, r.Metadata)
	case r.State != other.State:
		return fmt.Errorf("state %s, expected %s", other.State, r.State)
	case len(r.Entries) != len(other.Entries):
		return fmt.Errorf("%d entries, expected %d", len(other.Entries), len(r.Entries))
	}
	for i := range r.Entries {
		if r.Entries[i] != other.Entries[i] {
			return fmt.Errorf("entry %.120s, expected %.120s", other.Entries[i], r.Entries[i])
		}
	}
	return nil
}

// Snapshots lists the snapshots that etcd would start from, oldest first.
func Snapshots(dir string) ([]*walpb.Snapshot, error) {
	return wal.ValidSnapshotEntries(zap.NewNop(), dir)
}

// Unlike names the first field in which two lines differ; a conf state is compared by its voters.
func (l Line) Unlike(other Line) error {
	for key, want := range l {
		have, present := other[key]
		if key == "torn" {
			have = have != nil
		}
		if key == "conf_state" {
			var err error
			if have, err = voters(have); err != nil {
				return err
			}
		}
		if !present || have != want {
			return fmt.Errorf("%s is %v, expected %v, in %v", key, have, want, other)
		}
	}
	for key := range other {
		if _, known := l[key]; !known && !strings.HasPrefix(key, "x_") {
			return fmt.Errorf("unexpected field %s in %v", key, other)
		}
	}
	return nil
}

func voters(confState any) (any, error) {
	text, ok := confState.(string)
	if !ok {
		return nil, nil
	}
	raw, err := hex.DecodeString(text)
	if err != nil {
		return nil, err
	}
	s := &raftpb.ConfState{}
	if err := proto.Unmarshal(raw, s); err != nil {
		return nil, err
	}
	return "voters " + fmt.Sprint(s.GetVoters()), nil
}

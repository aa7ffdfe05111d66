package main

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"bytes"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// bboltSide obeys with bbolt.
type bboltSide struct {
	db *bolt.DB
	tx *bolt.Tx
}

var kinds = map[error]string{
	berrors.ErrBucketExists:       "bucket-exists",
	berrors.ErrBucketNotFound:     "bucket-not-found",
	berrors.ErrBucketNameRequired: "bucket-name-required",
	berrors.ErrKeyRequired:        "key-required",
	berrors.ErrKeyTooLarge:        "key-too-large",
	berrors.ErrIncompatibleValue:  "incompatible-value",
}

func answer(text string, err error) (string, error) {
	for known, kind := range kinds {
		if errors.Is(err, known) {
			return "err " + kind, nil
		}
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSpace("ok " + text), nil
}

func (s *bboltSide) do(command string) (string, error) {
	words := strings.Fields(command)
	switch words[0] {
	case "open":
		db, err := bolt.Open(words[1], 0o600, &bolt.Options{Timeout: 5 * time.Second, NoSync: true, FreelistType: bolt.FreelistMapType})
		s.db = db
		return answer("", err)
	case "close":
		return answer("", s.db.Close())
	case "begin":
		tx, err := s.db.Begin(true)
		s.tx = tx
		return answer("", err)
	case "commit":
		return answer("", s.tx.Commit())
	case "rollback":
		return answer("", s.tx.Rollback())
	case "check":
		return s.check()
	case "dump":
		return s.dump()
	}
	return s.change(words)
}

// change runs a command inside the write transaction.
func (s *bboltSide) change(words []string) (string, error) {
	parent, last, err := s.parent(words[1])
	if err != nil {
		return answer("", err)
	}
	switch words[0] {
	case "bucket":
		_, err := parent.CreateBucket(last)
		return answer("", err)
	case "drop":
		return answer("", parent.DeleteBucket(last))
	}
	b := parent.Bucket(last)
	if b == nil {
		return answer("", berrors.ErrBucketNotFound)
	}
	switch words[0] {
	case "put":
		value, err := unhex(words[3])
		if err != nil {
			return "", err
		}
		return answer("", b.Put(mustHex(words[2]), value))
	case "fill":
		n, err := strconv.Atoi(words[3])
		if err != nil {
			return "", err
		}
		return answer("", b.Put(mustHex(words[2]), bytes.Repeat(mustHex(words[4]), n)))
	case "delete":
		return answer("", b.Delete(mustHex(words[2])))
	case "get":
		return answer(hex.EncodeToString(b.Get(mustHex(words[2]))), nil)
	case "sequence":
		n, err := b.NextSequence()
		return answer(fmt.Sprint(n), err)
	default:
		return "", fmt.Errorf("unknown command %q", words[0])
	}
}

// buckets is what a transaction and a bucket have in common.
type buckets interface {
	Bucket(name []byte) *bolt.Bucket
	CreateBucket(name []byte) (*bolt.Bucket, error)
	DeleteBucket(name []byte) error
}

func (s *bboltSide) parent(path string) (buckets, []byte, error) {
	var parent buckets = s.tx
	names := strings.Split(path, "/")
	for _, name := range names[:len(names)-1] {
		b := parent.Bucket(mustHex(name))
		if b == nil {
			return nil, nil, berrors.ErrBucketNotFound
		}
		parent = b
	}
	return parent, mustHex(names[len(names)-1]), nil
}

func unhex(text string) ([]byte, error) {
	if text == "-" {
		return []byte{}, nil
	}
	return hex.DecodeString(text)
}

func mustHex(text string) []byte {
	b, err := hex.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return b
}

func (s *bboltSide) check() (string, error) {
	var found []string
	err := s.db.View(func(tx *bolt.Tx) error {
		for finding := range tx.Check() {
			found = append(found, finding.Error())
		}
		return nil
	})
	if len(found) > 0 {
		return "err findings " + strings.Join(found, "; "), err
	}
	return answer("", err)
}

func (s *bboltSide) dump() (string, error) {
	d := &dumper{hash: fnv.New64a()}
	err := s.db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error { return d.bucket(0, name, b) })
	})
	return answer(fmt.Sprintf("%d %016x", d.pairs, d.hash.Sum64()), err)
}

type dumper struct {
	hash  hash.Hash64
	pairs int
}

func (d *dumper) number32(n int) {
	_ = binary.Write(d.hash, binary.LittleEndian, uint32(n))
}

func (d *dumper) text(text []byte) {
	d.number32(len(text))
	d.hash.Write(text)
}

func (d *dumper) bucket(depth int, name []byte, b *bolt.Bucket) error {
	d.hash.Write([]byte{'B'})
	d.number32(depth)
	d.text(name)
	_ = binary.Write(d.hash, binary.LittleEndian, b.Sequence())
	return b.ForEach(func(key, value []byte) error {
		if value == nil {
			return d.bucket(depth+1, key, b.Bucket(key))
		}
		d.pairs++
		d.hash.Write([]byte{'K'})
		d.number32(depth + 1)
		d.text(key)
		d.text(value)
		return nil
	})
}

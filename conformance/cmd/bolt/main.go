// The judge of `bolt`: the same seeded operations run on bbolt and on ours; each side opens, checks, dumps and continues
// the other's file, back and forth. Real etcd databases are checked and dumped by both.
//
// Our side is `bolt-ops`, one process for all seeds, which reads commands from its standard input and answers each with
// one line: `ok`, `ok <text>`, or `err <kind>`. Names, keys and values are hex; a path is bucket names joined by `/`,
// and `-` is the root.
//
//	open FILE              makes it if it is not there        begin              of a write transaction
//	bucket PATH            makes the last bucket of the path   commit | rollback
//	drop PATH              deletes a bucket and all in it      check              ok, or err findings
//	put PATH KEY VALUE     fill PATH KEY LEN BYTE              dump               ok <pairs> <FNV-1a 64 of all>
//	delete PATH KEY        get PATH KEY: ok [VALUE]            close
//	sequence PATH          the next one: ok <number>      shrink             ok <pages moved or saved>
//
// Kinds of errors: bucket-exists, bucket-not-found, bucket-name-required, key-required, key-too-large,
// incompatible-value. Our file is shrunk before it is closed. Deleting a key that is not there is ok. `check` and `dump` run in a read transaction of their own.
//
// A dump goes through all buckets in key order, depth first. It hashes for each bucket: 'B', depth as 4 bytes, name
// length as 4 bytes, name, sequence as 8 bytes; for each pair: 'K', depth, key length, key, value length, value. Numbers
// are little-endian; the root is not hashed, its buckets have depth 0 and their pairs depth 1.
package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"stanchion.invalid/conformance/internal/harness"
)

const (
	seeds  = 1000
	rounds = 4
)

// shrunken counts the pages that online shrinking has moved or saved.
var shrunken int

// side is one engine that obeys commands.
type side interface {
	do(command string) (string, error)
}

func main() {
	harness.Run("bolt", func(j *harness.Judge) error {
		ours, err := startOurs()
		if err != nil {
			return err
		}
		defer ours.end()
		failed := 0
		for seed := range uint64(seeds) {
			if err := exchange(j, ours, seed); err != nil {
				failed++
				j.Check(err, "seed %d", seed)
				if failed == 10 {
					return fmt.Errorf("ten seeds failed; the rest was not run")
				}
				if err := ours.restart(); err != nil {
					return err
				}
			}
		}
		j.Check(nil, "%d of %d seeds: same answers, same contents, both checks clean on both files after each of %d rounds",
			seeds-failed, seeds, rounds)
		var idle error
		if shrunken < seeds {
			idle = fmt.Errorf("only %d pages", shrunken)
		}
		j.Check(idle, "online shrinking moved or saved %d pages of these files", shrunken)
		return realFiles(j, ours)
	})
}

// exchange writes two files with the same operations: in each round one by us and one by bbolt, then the other way
// round, so that each side continues what the other one wrote.
func exchange(j *harness.Judge, ours *oursSide, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 0xb01d))
	files := [2]string{j.Temp(fmt.Sprintf("%d-a.db", seed)), j.Temp(fmt.Sprintf("%d-b.db", seed))}
	g := newGenerator(rng)
	for round := range rounds {
		script := g.transactions(1 + rng.IntN(4))
		theirs := &bboltSide{}
		mine, others := files[round%2], files[1-round%2]
		if err := runBoth(ours, mine, theirs, others, script); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		for _, file := range files {
			if err := agree(ours, file); err != nil {
				return fmt.Errorf("round %d, %s: %w", round, filepath.Base(file), err)
			}
		}
		if err := sameDump(files[0], files[1]); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return removeAll(files[:])
}

func runBoth(ours side, ourFile string, theirs side, theirFile string, script []string) error {
	if err := open(ours, ourFile); err != nil {
		return err
	}
	if err := open(theirs, theirFile); err != nil {
		return err
	}
	for i, command := range script {
		want, err := theirs.do(command)
		if err != nil {
			return fmt.Errorf("bbolt, command %d %.80q: %w", i, command, err)
		}
		have, err := ours.do(command)
		if err != nil {
			return fmt.Errorf("ours, command %d %.80q: %w", i, command, err)
		}
		if have != want {
			return fmt.Errorf("command %d %.80q: %.120q, expected %.120q", i, command, have, want)
		}
	}
	answer, err := ours.do("shrink")
	if err != nil {
		return err
	}
	var pages int
	if _, err := fmt.Sscanf(answer, "ok %d", &pages); err != nil {
		return fmt.Errorf("shrink: %q %w", answer, err)
	}
	shrunken += pages
	for _, s := range []side{ours, theirs} {
		if answer, err := s.do("close"); err != nil || answer != "ok" {
			return fmt.Errorf("close: %q %w", answer, err)
		}
	}
	return nil
}

// agree lets both sides check and dump a file.
func agree(ours side, file string) error {
	var dumps [2]string
	for i, s := range []side{&bboltSide{}, ours} {
		if err := open(s, file); err != nil {
			return err
		}
		if answer, err := s.do("check"); err != nil || answer != "ok" {
			return fmt.Errorf("check by %T: %q %w", s, answer, err)
		}
		dump, err := s.do("dump")
		if err != nil {
			return fmt.Errorf("dump by %T: %w", s, err)
		}
		dumps[i] = dump
		if _, err := s.do("close"); err != nil {
			return err
		}
	}
	if dumps[0] != dumps[1] {
		return fmt.Errorf("our dump is %q, bbolt's %q", dumps[1], dumps[0])
	}
	return nil
}

func sameDump(a, b string) error {
	var dumps [2]string
	for i, file := range []string{a, b} {
		s := &bboltSide{}
		if err := open(s, file); err != nil {
			return err
		}
		dumps[i], _ = s.do("dump")
		if _, err := s.do("close"); err != nil {
			return err
		}
	}
	if dumps[0] != dumps[1] {
		return fmt.Errorf("the files differ: %q and %q", dumps[0], dumps[1])
	}
	return nil
}

func open(s side, file string) error {
	answer, err := s.do("open " + file)
	if err != nil || answer != "ok" {
		return fmt.Errorf("open %s by %T: %q %w", filepath.Base(file), s, answer, err)
	}
	return nil
}

func removeAll(files []string) error {
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return nil
}

package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// generator makes transactions out of a small world of names, so that operations meet each other's traces.
type generator struct {
	rng *rand.Rand
}

func newGenerator(rng *rand.Rand) *generator { return &generator{rng: rng} }

func (g *generator) transactions(n int) []string {
	var script []string
	for range n {
		script = append(script, "begin")
		// One transaction in four is large enough to split pages and to merge them again.
		operations := 1 + g.rng.IntN(30)
		if g.rng.IntN(4) == 0 {
			operations = 100 + g.rng.IntN(400)
		}
		if g.rng.IntN(4) == 0 {
			// First, and not among the others: bbolt loses pages when it deletes a bucket that the same transaction has
			// written to, and its own check then complains.
			script = append(script, "drop "+g.path())
		}
		for range operations {
			script = append(script, g.operation())
		}
		if g.rng.IntN(6) == 0 {
			script = append(script, "rollback")
		} else {
			script = append(script, "commit")
		}
	}
	return script
}

func (g *generator) operation() string {
	path := g.path()
	switch p := g.rng.IntN(100); {
	case p < 14:
		return "bucket " + path
	case p < 60:
		return fmt.Sprintf("put %s %s %s", path, g.key(), g.bytes(g.rng.IntN(120)))
	case p < 63:
		// Over one page, up to some ten.
		return fmt.Sprintf("fill %s %s %d %02x", path, g.key(), g.rng.IntN(40_000), g.rng.IntN(256))
	case p < 88:
		return fmt.Sprintf("delete %s %s", path, g.key())
	case p < 96:
		return fmt.Sprintf("get %s %s", path, g.key())
	default:
		return "sequence " + path
	}
}

// path names a bucket one to three deep; the names are few.
func (g *generator) path() string {
	names := make([]string, 1+g.rng.IntN(3))
	for i := range names {
		names[i] = fmt.Sprintf("%x", fmt.Sprintf("b%d", g.rng.IntN(3)))
	}
	return strings.Join(names, "/")
}

// key is one of some hundreds, of different lengths; a few are the names of buckets.
func (g *generator) key() string {
	if g.rng.IntN(50) == 0 {
		return fmt.Sprintf("%x", fmt.Sprintf("b%d", g.rng.IntN(3)))
	}
	n := g.rng.IntN(400)
	return fmt.Sprintf("%x", fmt.Sprintf("key %0*d", 1+n%37, n))
}

func (g *generator) bytes(n int) string {
	if n == 0 {
		return "-"
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.rng.Uint32())
	}
	return fmt.Sprintf("%x", b)
}

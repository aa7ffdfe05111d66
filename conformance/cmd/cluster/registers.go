package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// kind is what a client does to a register.
type kind int

const (
	read kind = iota
	write
	compareAndSwap
	remove
)

// input is one operation.
type input struct {
	kind kind
	key  string
	// old is what a compareAndSwap expects, value what is written; "" is absence.
	old, value string
}

// output is what its client was told.
type output struct {
	// unknown: no answer came, so it may have happened, at any later time, or not.
	unknown bool
	// value is what was read.
	value string
	// done: the swap took place, or there was something to remove.
	done bool
}

// model is a key that holds a value or none. A history is judged key by key.
var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		var keys []string
		for _, op := range history {
			key := op.Input.(input).key
			if _, known := byKey[key]; !known {
				keys = append(keys, key)
			}
			byKey[key] = append(byKey[key], op)
		}
		parts := make([][]porcupine.Operation, 0, len(keys))
		for _, key := range keys {
			parts = append(parts, byKey[key])
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		held, i, o := state.(string), in.(input), out.(output)
		switch i.kind {
		case read:
			return o.value == held, held
		case write:
			return true, i.value
		case remove:
			return o.unknown || o.done == (held != ""), ""
		default:
			swaps := held == i.old
			if swaps {
				held = i.value
			}
			return o.unknown || o.done == swaps, held
		}
	},
	DescribeOperation: func(in, out any) string {
		i, o := in.(input), out.(output)
		return fmt.Sprintf("%s: %v(%q, %q) -> %+v", i.key, i.kind, i.old, i.value, o)
	},
}

// recorder keeps the history. Times are nanoseconds of one clock.
type recorder struct {
	began time.Time

	mu      sync.Mutex
	history []porcupine.Operation
	clients int
	// acked has the revision at which each value was written, as its client was told.
	acked map[string]int64
}

func newRecorder() *recorder { return &recorder{began: time.Now(), acked: map[string]int64{}} }

func (r *recorder) now() int64 { return time.Since(r.began).Nanoseconds() }

// client gives a number to somebody who does one thing after the other.
func (r *recorder) client() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clients++
	return r.clients - 1
}

// never is later than any return.
const never = int64(1) << 62

func (r *recorder) add(client int, in input, call int64, out output, revision int64) {
	op := porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: r.now()}
	if out.unknown {
		op.Return = never
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.history = append(r.history, op)
	if revision > 0 {
		r.acked[in.key+"\x00"+in.value] = revision
	}
}

// counts tells how many operations were answered, and of how many nobody knows.
func (r *recorder) counts() (answered, unknown int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, op := range r.history {
		if op.Output.(output).unknown {
			unknown++
		} else {
			answered++
		}
	}
	return answered, unknown
}

// judge looks for an order of all operations that explains every answer.
func (r *recorder) judge(limit time.Duration) error {
	r.mu.Lock()
	history := r.history
	r.mu.Unlock()
	switch porcupine.CheckOperationsTimeout(model, history, limit) {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return fmt.Errorf("no verdict on %d operations after %s", len(history), limit)
	default:
		return fmt.Errorf("no order of operations explains %s", firstIllegal(history))
	}
}

// firstIllegal names a register whose operations cannot be ordered, with the operations.
func firstIllegal(history []porcupine.Operation) string {
	for _, part := range model.Partition(history) {
		if !porcupine.CheckOperations(model, part) {
			text := part[0].Input.(input).key
			for _, op := range part {
				text += fmt.Sprintf("\n      client %d [%d, %d] %s", op.ClientId, op.Call, op.Return,
					model.DescribeOperation(op.Input, op.Output))
			}
			return text
		}
	}
	return "the history"
}

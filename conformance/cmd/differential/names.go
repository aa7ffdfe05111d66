package main

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// autoNames are lease and member ids that each side chose for itself. Requests and compared answers speak of the n-th
// such id as autoBase+n; on the wire each side sees its own.
type autoNames struct {
	ids [][2]int64
}

// autoBase is above any id or revision that a generator makes.
const autoBase = int64(7) << 44

// add names a pair of ids.
func (a *autoNames) add(ids [2]int64) int64 {
	a.ids = append(a.ids, ids)
	return autoBase + int64(len(a.ids)-1)
}

// write gives the message as this side has to see it.
func (a *autoNames) write(side int, m proto.Message) proto.Message {
	if len(a.ids) == 0 {
		return m
	}
	m = proto.Clone(m)
	walk(m.ProtoReflect(), func(id int64) int64 {
		if n := id - autoBase; n >= 0 && n < int64(len(a.ids)) {
			return a.ids[n][side]
		}
		return id
	}, func(b []byte) []byte {
		for n, ids := range a.ids {
			b = bytes.ReplaceAll(b, hex(autoBase+int64(n)), hex(ids[side]))
		}
		return b
	})
	return m
}

// read turns this side's ids into their names, in numbers and in keys made of them.
func (a *autoNames) read(side int, m proto.Message) proto.Message {
	if len(a.ids) == 0 {
		return m
	}
	walk(m.ProtoReflect(), func(id int64) int64 {
		for n, ids := range a.ids {
			if ids[side] == id {
				return autoBase + int64(n)
			}
		}
		return id
	}, func(b []byte) []byte {
		for n, ids := range a.ids {
			b = bytes.ReplaceAll(b, hex(ids[side]), hex(autoBase+int64(n)))
		}
		return b
	})
	return m
}

func hex(id int64) []byte { return fmt.Appendf(nil, "%x", uint64(id)) }

// walk replaces every 64-bit number and every byte string in a message.
func walk(m protoreflect.Message, number func(int64) int64, bytes func([]byte) []byte) {
	one := func(f protoreflect.FieldDescriptor, v protoreflect.Value) (protoreflect.Value, bool) {
		switch f.Kind() {
		case protoreflect.Int64Kind:
			return protoreflect.ValueOfInt64(number(v.Int())), true
		case protoreflect.Uint64Kind:
			return protoreflect.ValueOfUint64(uint64(number(int64(v.Uint())))), true
		case protoreflect.BytesKind:
			return protoreflect.ValueOfBytes(bytes(v.Bytes())), true
		case protoreflect.MessageKind:
			walk(v.Message(), number, bytes)
		}
		return v, false
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.IsList() {
			list := v.List()
			for i := range list.Len() {
				if changed, ok := one(f, list.Get(i)); ok {
					list.Set(i, changed)
				}
			}
			return true
		}
		if changed, ok := one(f, v); ok {
			m.Set(f, changed)
		}
		return true
	})
}

package main

import (
	"fmt"
	"strings"
)

// fields collects the fields of a message that are not zero, in order.
type fields struct {
	shape []string
	texts []string
}

func (f *fields) add(name, value string) *fields {
	f.shape = append(f.shape, name)
	f.texts = append(f.texts, name+"="+value)
	return f
}

func (f *fields) number(name string, value uint64) *fields {
	if value == 0 {
		return f
	}
	return f.add(name, fmt.Sprint(value))
}

func (f *fields) flag(name string, value bool) *fields {
	if !value {
		return f
	}
	return f.add(name, "true")
}

func (f *fields) text(name string, value []byte) *fields {
	if len(value) == 0 {
		return f
	}
	return f.add(name, fmt.Sprintf("%x", value))
}

// entry adds type/term/index/data; entries of the same type and emptiness do not make a new shape.
func (f *fields) entry(kind int, term, index uint64, data []byte) {
	f.texts = append(f.texts, fmt.Sprintf("entry=%d/%d/%d/%x", kind, term, index, data))
	name := fmt.Sprintf("entry %d %t", kind, len(data) > 0)
	if len(f.shape) == 0 || f.shape[len(f.shape)-1] != name {
		f.shape = append(f.shape, name)
	}
}

func (f *fields) snapshot(index, term uint64, data []byte, voters, learners []uint64) {
	f.add("snapshot", fmt.Sprintf("%d/%d/%x/%s/%s", term, index, data, join(voters), join(learners)))
}

func join(ids []uint64) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(ids), " ", ","), "[]")
}

func (f *fields) message(from, to uint64, kind string, raw []byte, m any) message {
	return message{from: from, to: to, kind: kind, shape: strings.Join(f.shape, " "), fields: strings.Join(f.texts, " "),
		bytes: raw, raw: m}
}

package main

import (
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// rawBytes stand for a message that is sent as it is, well-formed or not.
type rawBytes []byte

// rawCodec sends messages and raw bytes alike.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	switch v := v.(type) {
	case rawBytes:
		return mem.BufferSlice{mem.SliceBuffer(v)}, nil
	case proto.Message:
		// Strings that are no UTF-8 must reach the server, whose refusal is part of what is compared.
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(v)
		return mem.BufferSlice{mem.SliceBuffer(b)}, err
	}
	return nil, fmt.Errorf("cannot send %T", v)
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	switch v := v.(type) {
	case *rawBytes:
		*v = data.Materialize()
		return nil
	case proto.Message:
		return proto.Unmarshal(data.Materialize(), v)
	}
	return fmt.Errorf("cannot receive %T", v)
}

// text is a message on one line.
func text(m proto.Message) string {
	return prototext.MarshalOptions{Multiline: false, AllowPartial: true}.Format(m)
}

package main

import (
	"time"

	"stanchion.invalid/conformance/internal/members"
)

// wires is the network between the members, in which each direction between two of them can fail on its own.
type wires interface {
	// what says what they are made of.
	what() string
	// place puts a member that has not been started behind its wire.
	place(m *members.Member) error
	// set puts a trouble on links.
	set(t trouble, links ...link) error
	// heal ends all trouble; `cut` ends the connections too, where that does not happen by itself.
	heal(cut bool) error
	// delays tells whether there is such a trouble.
	delays() bool
	// end takes the wires down.
	end()
}

// link is one direction between two members, by their names.
type link struct{ from, to string }

// trouble is what happens to what goes over a link.
type trouble struct {
	// blocked: nothing arrives until it is over.
	blocked bool
	// delay is added to everything.
	delay time.Duration
	// loss is the share that is lost.
	loss float64
}

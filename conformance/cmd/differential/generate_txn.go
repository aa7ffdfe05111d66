package main

import (
	"bytes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func (g *generator) compare() *pb.Compare {
	c := &pb.Compare{
		Result: pb.Compare_CompareResult(g.rng.IntN(4)),
		Target: pb.Compare_CompareTarget(g.rng.IntN(5)),
		Key:    g.key(),
	}
	if g.chance(4) {
		c.RangeEnd = g.rangeEnd(c.Key)
	}
	operand := c.Target
	if g.chance(30) { // an operand of another kind than the target
		operand = pb.Compare_CompareTarget(g.rng.IntN(5))
	}
	if g.chance(60) {
		c.Result = pb.Compare_CompareResult(pick(g, -1, 4, 99))
	}
	if g.chance(60) {
		c.Target = pb.Compare_CompareTarget(pick(g, -1, 5, 99))
	}
	switch operand {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: int64(g.rng.IntN(4))}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: pick(g, 0, g.aRevision())}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: pick(g, 0, g.aRevision())}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: g.value()}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: g.lease()}
	}
	if g.chance(40) {
		c.TargetUnion = nil
	}
	return c
}

func (g *generator) op(depth int) *pb.RequestOp {
	switch n := g.rng.IntN(20); {
	case n < 7:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: g.put()}}
	case n < 14:
		r := g.rangeRequest()
		if !g.chance(4) {
			r.Revision = 0
		}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
	case n < 17:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: g.deleteRange()}}
	case n < 19 && depth < 4:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: g.txn(depth + 1)}}
	case g.chance(10):
		return &pb.RequestOp{}
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: g.put()}}
}

func (g *generator) ops(depth int) []*pb.RequestOp {
	n := g.rng.IntN(4)
	if g.chance(60) && depth == 0 {
		n = 120 + g.rng.IntN(12) // around the limit of 128
	}
	ops := make([]*pb.RequestOp, n)
	readOnly := g.chance(4)
	for i := range ops {
		if readOnly || n > 100 {
			ops[i] = &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{
				Key: []byte("k01"), Serializable: g.chance(2),
			}}}
		} else {
			ops[i] = g.op(depth)
		}
	}
	return ops
}

func (g *generator) txn(depth int) *pb.TxnRequest {
	t := &pb.TxnRequest{Success: g.ops(depth), Failure: g.ops(depth)}
	for range g.rng.IntN(3) {
		t.Compare = append(t.Compare, g.compare())
	}
	if g.chance(300) {
		for len(t.Compare) < 129 {
			t.Compare = append(t.Compare, g.compare())
		}
	}
	return t
}

// safeTxn makes a transaction without the two forms that etcd does not survive (DEF-1 and DEF-2): a delete to the end of
// the key space beside a put.
func (g *generator) safeTxn() *pb.TxnRequest {
	t := g.txn(0)
	if openDelete(t, false) && hasPut(t) {
		openDelete(t, true)
	}
	return t
}

// openDelete finds deletes whose end is open, and closes them if asked to.
func openDelete(t *pb.TxnRequest, closeIt bool) bool {
	found := false
	for _, ops := range [][]*pb.RequestOp{t.Success, t.Failure} {
		for _, op := range ops {
			if d := op.GetRequestDeleteRange(); d != nil && bytes.Equal(d.RangeEnd, []byte{0}) {
				found = true
				if closeIt {
					d.RangeEnd = append(append([]byte{}, d.Key...), 0)
				}
			}
			if n := op.GetRequestTxn(); n != nil {
				found = openDelete(n, closeIt) || found
			}
		}
	}
	return found
}

func hasPut(t *pb.TxnRequest) bool {
	for _, ops := range [][]*pb.RequestOp{t.Success, t.Failure} {
		for _, op := range ops {
			if op.GetRequestPut() != nil || op.GetRequestTxn() != nil && hasPut(op.GetRequestTxn()) {
				return true
			}
		}
	}
	return false
}

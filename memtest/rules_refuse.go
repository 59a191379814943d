// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"context"
	"errors"
	"fmt"

	"github.com/remora-go/remora"
)

// ruleRefuse: op bits that the Space does not honour and writes to a read-only
// Space are refused whole; the bits that it claims, it honours.
func ruleRefuse(p *probe) error {
	bits := append([]remora.Op{}, unknownBits...)
	for _, bit := range []remora.Op{remora.StopAtFault, remora.Force, remora.Resident} {
		if p.info.Ops&bit == 0 {
			bits = append(bits, bit)
		}
	}
	for _, bit := range bits {
		for _, more := range []remora.Op{0, remora.StopAtFault & p.info.Ops} {
			for _, dir := range p.dirs() {
				if err := p.refuses(dir|bit|more, errors.ErrUnsupported); err != nil {
					return err
				}
			}
		}
	}
	if !p.info.Writable {
		for _, bits := range []remora.Op{0, remora.StopAtFault, remora.Force, remora.Resident} {
			if bits&^p.info.Ops != 0 {
				continue
			}
			if err := p.refuses(remora.Write|bits, remora.ErrReadOnly, errors.ErrUnsupported); err != nil {
				return err
			}
		}
	}
	if err := p.everywhere(); err != nil {
		return fmt.Errorf("after refused calls: %w", err)
	}
	for _, op := range p.turn(p.ops()) {
		if op&(remora.Force|remora.Resident) == 0 && op&remora.Write == 0 {
			continue
		}
		if err := p.afresh(func() error { return p.honours(op) }); err != nil {
			return err
		}
	}
	return nil
}

// refuses makes a call that must be refused with err. The pair of Write and
// Resident may be refused with or instead, too.
func (p *probe) refuses(op remora.Op, err error, or ...error) error {
	var segs []remora.Seg
	for i := range p.lay {
		segs = append(segs, p.seg(p.lay[i].Start, 1), remora.Seg{Addr: p.lay[i].Start}, p.seg(p.lay[i].Last(), 1))
	}
	for i := range segs {
		segs[i].N, segs[i].Err = -1, errStale
	}
	sum, got := p.fx.Space.Transfer(context.Background(), op, segs)
	if len(or) > 0 && op&remora.Resident != 0 && errors.Is(got, or[0]) {
		err = or[0]
	}
	if sum != 0 || !errors.Is(got, err) {
		return fmt.Errorf("%v returned %d, %v, want 0, %v", op, sum, got, err)
	}
	for i := range segs {
		if bad := refusedWith(&segs[i], err); bad != nil {
			return fmt.Errorf("refused %v, segment %d: %w", op, i, bad)
		}
	}
	return nil
}

// honours makes one call for the ends of every area of which op's answer is known.
func (p *probe) honours(op remora.Op) error {
	for i := range p.lay {
		for _, a := range []remora.Addr{p.lay[i].Start, p.lay[i].Last()} {
			if err := p.call(op, []remora.Seg{p.seg(a, 1)}); err != nil {
				return err
			}
		}
	}
	return nil
}

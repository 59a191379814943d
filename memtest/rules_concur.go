// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/remora-go/remora"
)

// ruleRetained: when a call has returned, Bufs and segments are the caller's
// alone; and calls may run side by side.
func ruleRetained(p *probe) error {
	if err := p.reused(); err != nil {
		return err
	}
	if p.info.Writable {
		if err := p.afresh(p.reusedWrites); err != nil {
			return err
		}
	}
	if err := p.afresh(p.beside, p.everywhere); err != nil {
		return err
	}
	if p.info.Atomic > 0 && p.info.Writable {
		return p.afresh(p.untorn)
	}
	return nil
}

// reused overwrites what a read was given and looks, after further calls, whether
// it stays overwritten.
func (p *probe) reused() error {
	good := p.lay.longest(remora.Read)
	for range p.work.times(20) {
		old := []remora.Seg{p.inside(good, 99), p.inside(good, 99)}
		if err := p.call(remora.Read, old); err != nil {
			return err
		}
		bufs := make([][]byte, len(old))
		for i := range old {
			for j := range old[i].Buf {
				old[i].Buf[j] ^= 0xff
			}
			bufs[i] = append([]byte{}, old[i].Buf...)
			old[i].N, old[i].Err, old[i].Addr = -7, errStale, 7
		}
		for range 2 {
			if err := p.call(remora.Read, []remora.Seg{p.inside(good, 99), p.inside(good, 99), p.inside(good, 99)}); err != nil {
				return err
			}
		}
		for i := range old {
			if differ(old[i].Buf, bufs[i]) >= 0 {
				return errors.New("a Buf was written to after the read had returned")
			}
			if old[i].N != -7 || old[i].Err != errStale || old[i].Addr != 7 {
				return errors.New("a segment was changed after the call had returned")
			}
		}
	}
	return nil
}

// reusedWrites overwrites the Bufs of a write and looks, after further calls,
// whether the target holds what was written.
func (p *probe) reusedWrites() error {
	good := p.lay.longest(remora.Write)
	for range p.work.times(20) {
		segs := []remora.Seg{p.inside(good, 99), p.inside(good, 99)}
		if err := p.call(remora.Write, segs); err != nil {
			return err
		}
		for i := range segs {
			for j := range segs[i].Buf {
				segs[i].Buf[j] ^= 0xff
			}
			segs[i].Addr = good.Start
		}
		for _, op := range p.dirs() {
			if r := p.lay.longest(op); !r.Empty() {
				if err := p.call(op, []remora.Seg{p.inside(r, 9)}); err != nil {
					return err
				}
			}
		}
		if err := p.compare(good); err != nil {
			return fmt.Errorf("after the Bufs of a finished write were overwritten: %w", err)
		}
	}
	return nil
}

const (
	lanes     = 4
	laneCalls = 200
)

// beside makes calls from several goroutines at once. Each reads what nobody
// writes, faults, and has a part of the writable run to itself.
func (p *probe) beside() error {
	var all [lanes]*probe
	for i := range all {
		q, err := p.lane(i)
		if err != nil {
			return err
		}
		all[i] = q
	}
	errs := make(chan error, lanes)
	for _, q := range all { // at once, so that they meet on a busy machine too
		go func() { errs <- q.laneRun() }()
	}
	var failed error
	for range lanes {
		failed = errors.Join(failed, <-errs)
	}
	if failed != nil {
		return fmt.Errorf("calls side by side: %w", failed)
	}
	if !p.info.Writable {
		return nil
	}
	// What the lanes wrote, they have checked; take it over.
	good := p.lay.longest(remora.Write)
	buf := make([]byte, good.Size)
	ok, err := p.peek(buf, good.Start)
	if ok {
		p.lay.store(good.Start, buf)
	}
	return err
}

// twin gives a probe of the same fixture for goroutine i.
func (p *probe) twin(i int) *probe {
	return &probe{want: p.want, work: p.work, logf: p.logf, fx: p.fx, info: p.info, lay: p.lay, rnd: newRand(uint64(i)), noise: p.noise}
}

// lane gives a probe of the same Space for one goroutine: its layout is the part
// of the longest writable run that is its own, what cannot be written, and a
// look at the target through the Space.
func (p *probe) lane(i int) (*probe, error) {
	q := p.twin(i)
	q.fx = Fixture{Space: p.fx.Space}
	var own remora.Range
	if p.info.Writable {
		own = p.lay.longest(remora.Write)
		own.Size /= lanes
		own.Start += remora.Addr(uint64(i) * own.Size)
	}
	var areas []Area
	for _, a := range p.lay {
		if p.info.Writable && len(a.faults(remora.Write)) == 0 {
			in := a.Range.Intersect(own)
			if in.Empty() {
				continue
			}
			a.Data = a.Data[in.Start-a.Start:][:in.Size]
			a.Range = in
		}
		areas = append(areas, a)
	}
	var err error
	q.lay, err = newLayout(areas)
	return q, err
}

func (q *probe) laneRun() error {
	for _, op := range q.dirs() {
		good, holes := q.lay.longest(op), q.lay.holes(op)
		if good.Empty() {
			continue
		}
		for range q.work.times(laneCalls) {
			segs := []remora.Seg{q.inside(good, 200), q.inside(good, 200), q.inside(good, 8)}
			if len(holes) > 0 {
				segs = append(segs, q.seg(holes[q.rnd.IntN(len(holes))].Start, 5), q.inside(good, 50))
			}
			if err := q.call(op, segs); err != nil {
				return err
			}
		}
	}
	return nil
}

// untorn writes words of equal bytes while others read them: at Info.Atomic bytes,
// aligned, no two words may ever be mixed.
func (p *probe) untorn() error {
	size := remora.Addr(p.info.Atomic)
	good := p.lay.longest(remora.Write)
	at := (good.Start + size - 1) &^ (size - 1)
	if !p.lay.reads(at) {
		return nil
	}
	var errs [2]error
	var wg sync.WaitGroup
	write := func(b byte) error {
		seg := []remora.Seg{{Addr: at, Buf: make([]byte, size)}}
		for i := range seg[0].Buf {
			seg[0].Buf[i] = b
		}
		_, err := p.fx.Space.Transfer(context.Background(), remora.Write, seg)
		return err
	}
	if err := write(0); err != nil {
		return err
	}
	wg.Go(func() {
		for i := range p.work.times(2000) {
			errs[0] = errors.Join(errs[0], write(byte(i)))
		}
	})
	wg.Go(func() {
		seg := []remora.Seg{{Addr: at, Buf: make([]byte, size)}}
		for range p.work.times(2000) {
			_, err := p.fx.Space.Transfer(context.Background(), remora.Read, seg)
			for _, b := range seg[0].Buf {
				if b != seg[0].Buf[0] {
					err = fmt.Errorf("a word of Info.Atomic = %d bytes was torn: %x", size, seg[0].Buf)
				}
			}
			errs[1] = errors.Join(errs[1], err)
		}
	})
	wg.Wait()
	return errors.Join(errs[0], errs[1])
}

// ruleClose: after Close nothing moves; Close waits for calls that run, may come
// at any time, and twice.
func ruleClose(p *probe) error {
	if p.fx.Close == nil {
		return nil
	}
	if err := p.closed(); err != nil {
		return err
	}
	for look := range int64(2) {
		if err := p.afresh(func() error { return p.closeWaits(look + 1) }, p.closed); err != nil {
			return err
		}
	}
	for range p.work.times(10) {
		if err := p.afresh(p.closeBeside, p.closed); err != nil {
			return err
		}
	}
	return nil
}

// closed closes the Space and checks that everything is refused from then on.
func (p *probe) closed() error {
	for range 2 {
		if err := p.fx.Close(); err != nil {
			return fmt.Errorf("Close: %w", err)
		}
		for _, dir := range p.dirs() {
			if err := p.refuses(dir, fs.ErrClosed); err != nil {
				return fmt.Errorf("after Close: %w", err)
			}
			if _, err := p.fx.Space.Transfer(context.Background(), dir, nil); !errors.Is(err, fs.ErrClosed) {
				return fmt.Errorf("after Close an empty call returned %v, want %v", err, fs.ErrClosed)
			}
		}
		if name := p.fx.Space.Info().Name; name != p.info.Name {
			return fmt.Errorf("after Close Info.Name is %q", name)
		}
	}
	return nil
}

// closeWaits holds a call at a look at its context and closes twice: neither Close
// may be back before the call, unless that had not got in and is refused.
func (p *probe) closeWaits(look int64) error {
	ctx := newHolder(look)
	segs := p.ladder(p.lay.longest(remora.Read), 2)
	called, begun, closed := make(chan error, 1), make(chan bool, 2), make(chan error, 2)
	go func() { called <- p.transferRead(ctx, segs) }()
	select {
	case <-ctx.held:
	case <-called:
		return fmt.Errorf("a call of %d segments did not look %d times at its context", len(segs), look)
	}
	for range 2 {
		go func() {
			begun <- true
			closed <- p.fx.Close()
		}()
	}
	<-begun
	<-begun
	early := 0
	var closing error
	select {
	case closing = <-closed:
		early = 1
	case <-time.After(p.work.grace):
	}
	close(ctx.release)
	err := <-called
	for range 2 - early {
		closing = errors.Join(closing, <-closed)
	}
	if closing != nil {
		return fmt.Errorf("Close beside a call: %w", closing)
	}
	if early > 0 && !errors.Is(err, errAllRefused) {
		return errors.New("Close returned while a call was running")
	}
	if errors.Is(err, errAllRefused) {
		return nil
	}
	return err
}

var errAllRefused = errors.New("the whole call was refused, closed")

// transferRead reads beside a Close: what is counted must be right, and all that
// may stop it is that the Space was closed.
func (p *probe) transferRead(ctx context.Context, segs []remora.Seg) error {
	want, err := p.plan(remora.Read, segs)
	if err != nil {
		return err
	}
	refused := true
	err = p.transfer(ctx, remora.Read, segs, func(i int) error {
		s := &segs[i]
		if errors.Is(s.Err, fs.ErrClosed) {
			refused = refused && s.N == 0
			return nil
		}
		refused = false
		if s.N != want[i].n || len(want[i].causes) > 0 && !oneOf(s.Err, want[i].causes) {
			return fmt.Errorf("N = %d, Err = %v beside Close, want %d, %v", s.N, s.Err, want[i].n, want[i].causes)
		}
		return nil
	})
	if err == nil && refused {
		return errAllRefused
	}
	return err
}

// closeBeside closes twice at once among calls that come and go.
func (p *probe) closeBeside() error {
	good := p.lay.longest(remora.Read)
	errs := make(chan error, lanes+2)
	started := make(chan struct{}, lanes)
	for i := range lanes {
		q := p.twin(i)
		go func() {
			for n := 0; ; n++ {
				err := q.transferRead(context.Background(), []remora.Seg{q.inside(good, 64), q.inside(good, 64)})
				if n == 3 || err != nil && n < 3 {
					started <- struct{}{}
				}
				if err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	<-started
	for range 2 {
		go func() { errs <- p.fx.Close() }()
	}
	var all error
	for range lanes + 2 {
		if err := <-errs; err != nil && !errors.Is(err, errAllRefused) {
			all = errors.Join(all, err)
		}
	}
	return all
}

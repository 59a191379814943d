// SPDX-License-Identifier: Apache-2.0

package play

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/processvm"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/memtest"
	"github.com/remora-go/remora/target"
)

// live is what Remora does with live processes.
//
//	write, force TARGET ADDR SIZE
//	ends TARGET ADDR SIZE              read, with a context that can end
//	open TARGET ADDR SIZE              open, read, close
//	scatter TARGET RANGES [THREADS]    all in one call, or a part in each of two goroutines
//	space TARGET ADDR SIZE             all that is mapped there
//	sparse TARGET ADDR SIZE [THREADS]  all that is resident there
//	readv TARGET ADDR SIZE             compat/processvm: the system call
//	engine SIZE                        compat/processvm: between two spaces of this process
func (p *player) live() map[string]Verb {
	return map[string]Verb{
		"write": p.write, "force": p.moves(remora.Force), "ends": p.ends, "open": p.opens, "scatter": p.scatter,
		"space": p.space, "sparse": p.sparse, "readv": readv, "engine": engine,
	}
}

// moved is the work of moving the range v, ADDR SIZE.
func moved(ctx context.Context, t remora.Target, v []uint64, op remora.Op) *Work {
	m, segs := t.Memory(), []remora.Seg{{Addr: remora.Addr(v[0]), Buf: used(v[1])}}
	return &Work{
		Do:     func() error { _, err := m.Transfer(ctx, op, segs); return err },
		Digest: func() (string, error) { return Sum(segs[0].Buf), nil },
		Close:  t.Close,
	}
}

// moves gives what moves a range, with a context that cannot end.
func (p *player) moves(op remora.Op) Verb {
	return func(args []string) (*Work, error) {
		t, v, err := p.open(args, 2)
		if err != nil {
			return nil, err
		}
		return moved(context.Background(), t, v, op), nil
	}
}

func (p *player) ends(args []string) (*Work, error) {
	t, v, err := p.open(args, 2)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background()) // that it could end is what matters
	w := moved(ctx, t, v, remora.Read)
	w.Close = func() error { cancel(); return t.Close() }
	return w, nil
}

func (p *player) write(args []string) (*Work, error) {
	writer := player{options: p.options}
	writer.options.Write = true
	t, v, err := writer.open(args, 2)
	if err != nil {
		return nil, err
	}
	pid, err := strconv.ParseUint(args[0], 10, 64)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	m, segs := t.Memory(), []remora.Seg{{Addr: remora.Addr(v[0]), Buf: pattern(v[1])}}
	w := written([]uint64{pid, v[0], v[1]}, func() error { _, err := m.WriteV(context.Background(), segs); return err })
	w.Close = t.Close
	return w, nil
}

func (p *player) opens(args []string) (*Work, error) {
	t, v, err := p.open(args, 2)
	if err != nil {
		return nil, err
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	ctx, buf := context.Background(), used(v[1])
	return &Work{
		Do: func() error {
			t, err := target.Open(ctx, args[0], &p.options)
			if err != nil {
				return err
			}
			_, err = t.Memory().ReadAt(ctx, buf, remora.Addr(v[0]))
			return errors.Join(err, t.Close())
		},
		Digest: func() (string, error) { return Sum(buf), nil },
	}, nil
}

// scatter reads many ranges. That some are not there is no error.
func (p *player) scatter(args []string) (*Work, error) {
	threads := 1
	if len(args) == 3 {
		threads = 2
		args = args[:2]
	}
	_, segs, err := scattered(args)
	if err != nil {
		return nil, err
	}
	t, _, err := p.open(args[:1], 0)
	if err != nil {
		return nil, err
	}
	m := t.Memory()
	read := func(segs []remora.Seg) error {
		if _, err := m.ReadV(context.Background(), segs); !errors.Is(err, remora.ErrFault) {
			return err
		}
		return nil
	}
	w := &Work{Do: func() error { return read(segs) }, Digest: func() (string, error) { return got(segs), nil }, Close: t.Close}
	if threads == 2 {
		w.Do = func() error {
			half, errs := len(segs)/2, [2]error{}
			var other sync.WaitGroup
			other.Go(func() { errs[1] = read(segs[half:]) })
			errs[0] = read(segs[:half])
			other.Wait()
			return errors.Join(errs[:]...)
		}
	}
	return w, nil
}

// space reads all that is mapped in a range, in one goroutine or a half in each of two.
func (p *player) space(args []string) (*Work, error) {
	t, v, err := p.open(args, 2)
	if err != nil {
		return nil, err
	}
	mapper, ok := remora.As[remora.Mapper](t)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s lists no mappings", args[0]), t.Close())
	}
	parts := uint64(max(1, p.options.Parallel))
	var all []reading
	for i := range parts {
		first, end := v[0]+v[1]*i/parts, v[0]+v[1]*(i+1)/parts
		all = append(all, (&walk{mem: t.Memory(), in: mapper, first: first, end: end, buf: used(piece)}).read)
	}
	w := together(all, contents)
	w.Close = t.Close
	return w, nil
}

// readv reads as compat/processvm does for who made the system call before.
func readv(args []string) (*Work, error) {
	v, err := ofProcess(args)
	if err != nil {
		return nil, err
	}
	buf := used(v[2])
	local := []processvm.Iovec{{Base: linux.AddressOf(buf), Len: v[2]}}
	remote := []processvm.Iovec{{Base: v[1], Len: v[2]}}
	return &Work{
		Do: func() error {
			if n, e := processvm.Readv(int(v[0]), local, remote, 0); n != len(buf) {
				return fmt.Errorf("%d bytes: %w", n, e)
			}
			return nil
		},
		Digest: func() (string, error) { return Sum(buf), nil },
	}, nil
}

// engine moves bytes between two Spaces.
func engine(args []string) (*Work, error) {
	const start = 0x100000
	v, err := parse(args)
	if err != nil || len(v) != 1 {
		return nil, errors.Join(fmt.Errorf("not SIZE: %q", args), err)
	}
	size := v[0]
	s := processvm.NewSystem(nil)
	caller, other := &processvm.Process{PID: 1}, &processvm.Process{PID: 2}
	for i, p := range []*processvm.Process{caller, other} {
		space := memtest.NewSparse(nil)
		if err := space.Map(remora.Range{Start: start, Size: size}, memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite}); err != nil {
			return nil, err
		}
		data := pattern(size)
		data[0] = byte(i)
		if err := space.Poke(data, start); err != nil {
			return nil, err
		}
		p.Memory = space.Memory()
		if err := s.Set(p); err != nil {
			return nil, err
		}
	}
	vec, ctx := []processvm.Iovec{{Base: start, Len: size}}, context.Background()
	return &Work{
		Do: func() error {
			if n, e := s.Readv(ctx, caller, other.PID, vec, vec, 0); uint64(n) != size {
				return fmt.Errorf("%d bytes: %w", n, e)
			}
			return nil
		},
		Digest: func() (string, error) {
			buf := make([]byte, size)
			_, err := caller.Memory.ReadAt(ctx, buf, start)
			return Sum(buf), err
		},
	}, nil
}

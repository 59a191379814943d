// SPDX-License-Identifier: Apache-2.0

package play

import (
	"bufio"
	"context"
	"fmt"
	"os"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/target"
	"github.com/remora-go/remora/vmcore"
)

// Ranges gives what Remora does for the benchmark with ranges that are in a file, ADDR SIZE
// on each line.
//
//	ranges TARGET FILE    reads all with one call
//	next TARGET FILE      reads the next of them
func Ranges(o target.Options) map[string]Verb {
	p := &player{options: o}
	return map[string]Verb{"ranges": p.ranges, "next": p.next}
}

// load gives the segments of a file, and the memory that they read into.
func load(name string) (segs []remora.Seg, all []byte, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	total := 0
	var sizes []int
	for in := bufio.NewScanner(f); in.Scan(); {
		var a uint64
		var size int
		if _, err := fmt.Sscan(in.Text(), &a, &size); err != nil {
			return nil, nil, fmt.Errorf("%s: %q: %w", name, in.Text(), err)
		}
		segs, sizes = append(segs, remora.Seg{Addr: remora.Addr(a)}), append(sizes, size)
		total += size
	}
	all = used(uint64(total))
	at := 0
	for i, size := range sizes {
		segs[i].Buf = all[at : at+size : at+size]
		at += size
	}
	return segs, all, nil
}

// loaded opens a target and loads the ranges.
func (p *player) loaded(args []string) (t remora.Target, segs []remora.Seg, all []byte, err error) {
	if len(args) != 2 {
		return nil, nil, nil, fmt.Errorf("%d arguments, not 2", len(args))
	}
	if segs, all, err = load(args[1]); err != nil {
		return nil, nil, nil, err
	}
	if len(segs) == 0 {
		return nil, nil, nil, fmt.Errorf("%s has no ranges", args[1])
	}
	t, err = target.Open(context.Background(), args[0], &p.options)
	return t, segs, all, err
}

func (p *player) ranges(args []string) (*Work, error) {
	t, segs, all, err := p.loaded(args)
	if err != nil {
		return nil, err
	}
	m, ctx := t.Memory(), context.Background()
	return &Work{
		Do:     func() error { _, err := m.ReadV(ctx, segs); return err },
		Digest: func() (string, error) { return Sum(all), nil },
		Close:  t.Close,
	}, nil
}

func (p *player) next(args []string) (*Work, error) {
	t, segs, all, err := p.loaded(args)
	if err != nil {
		return nil, err
	}
	m, ctx, at := t.Memory(), context.Background(), 0
	one := func() error {
		_, err := m.ReadV(ctx, segs[at:at+1])
		if at++; at == len(segs) {
			at = 0
		}
		return err
	}
	return &Work{
		Do: one,
		Digest: func() (string, error) {
			for range segs {
				if err := one(); err != nil {
					return "", err
				}
			}
			return Sum(all), nil
		},
		Close: t.Close,
	}, nil
}

// Kcore gives what Remora does with the memory of the kernel that it runs on.
//
//	read ADDR SIZE CHUNK    reads /proc/kcore, CHUNK bytes a call
func Kcore() map[string]Verb { return map[string]Verb{"read": kcore} }

func kcore(args []string) (*Work, error) {
	v, err := parse(args)
	if err != nil || len(v) != 3 || v[2] == 0 {
		return nil, fmt.Errorf("not an address and two sizes: %q", args)
	}
	img, err := vmcore.OpenKcore(nil)
	if err != nil {
		return nil, err
	}
	buf := used(v[1])
	m, ctx := img.Memory(), context.Background()
	return &Work{
		Do: func() error {
			for at := uint64(0); at < v[1]; at += v[2] {
				if _, err := m.ReadAt(ctx, buf[at:min(at+v[2], v[1])], remora.Addr(v[0]+at)); err != nil {
					return err
				}
			}
			return nil
		},
		Digest: func() (string, error) { return Sum(buf), nil },
		Close:  img.Close,
	}, nil
}

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
	return (&player{options: o}).listed()
}

// Turns gives the verbs of Ranges for what serves one at a time: it is opened for each
// request and closed after it.
func Turns(o target.Options) map[string]Verb {
	return (&player{options: o, turns: true}).listed()
}

func (p *player) listed() map[string]Verb {
	return map[string]Verb{"ranges": takes(2, p.ranges), "next": takes(2, p.next)}
}

// load gives the segments of a file of ranges, "ADDR SIZE" on each line, and the memory that
// they read into: each has a part of it, one behind the other.
func load(name string) (segs []remora.Seg, all []byte, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	total := 0
	var sizes []int
	in := bufio.NewScanner(f)
	for in.Scan() {
		var a uint64
		var size int
		if _, err := fmt.Sscan(in.Text(), &a, &size); err != nil {
			return nil, nil, fmt.Errorf("%s: %q: %w", name, in.Text(), err)
		}
		segs, sizes = append(segs, remora.Seg{Addr: remora.Addr(a)}), append(sizes, size)
		total += size
	}
	if err := in.Err(); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	all = used(uint64(total))
	at := 0
	for i, size := range sizes {
		segs[i].Buf = all[at : at+size : at+size]
		at += size
	}
	return segs, all, nil
}

// loaded is a target and the ranges that are read of it.
type loaded struct {
	t    remora.Target
	m    *remora.Memory
	segs []remora.Seg
	all  []byte
	at   int // the next
}

func (l *loaded) close() error { return l.t.Close() }

func (l *loaded) one() error {
	_, err := l.m.ReadV(context.Background(), l.segs[l.at:l.at+1])
	if l.at++; l.at == len(l.segs) {
		l.at = 0
	}
	return err
}

// load makes the ranges of a target ready, and the work, of which Do is wanting.
func (p *player) load(args []string) (*loaded, *Work, error) {
	l := &loaded{}
	var err error
	if l.segs, l.all, err = load(args[1]); err != nil {
		return nil, nil, err
	}
	if len(l.segs) == 0 {
		return nil, nil, fmt.Errorf("%s has no ranges", args[1])
	}
	open := func() (err error) {
		if l.t, err = target.Open(context.Background(), args[0], &p.options); err == nil {
			l.m = l.t.Memory()
		}
		return err
	}
	w := &Work{Digest: func() (string, error) { return Sum(l.all), nil }}
	if p.turns {
		w.Enter, w.Leave = open, l.close
		return l, w, nil
	}
	w.Close = l.close
	return l, w, open()
}

func (p *player) ranges(args []string) (*Work, error) {
	l, w, err := p.load(args)
	if err != nil {
		return nil, err
	}
	w.Do = func() error { _, err := l.m.ReadV(context.Background(), l.segs); return err }
	return w, nil
}

func (p *player) next(args []string) (*Work, error) {
	l, w, err := p.load(args)
	if err != nil {
		return nil, err
	}
	w.Do = l.one
	w.Digest = func() (string, error) {
		for range l.segs {
			if err := l.one(); err != nil {
				return "", err
			}
		}
		return Sum(l.all), nil
	}
	return w, nil
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

// SPDX-License-Identifier: Apache-2.0

package play

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/proc"
)

// way is how somebody moves bytes of a process, one range a call. What is moved is a prefix.
type way struct {
	read, write func(p []byte, a uint64) (int, error)
	close       func() error // nil: nothing is held
	faults      func(error) bool
}

// piece is how much is read at a time of what is larger than any buffer.
const piece = 1 << 20

// ways gives what can be asked of a way to a process.
//
//	read, write PID ADDR SIZE
//	each PID RANGES             each range by itself; RANGES is a file: see load
//	space PID ADDR SIZE         all that is mapped there and can be read, 1 MiB a call
//	open PID ADDR SIZE          begin, read, and end
func ways(open func(pid int) (*way, error)) map[string]Verb {
	held := func(make func(w *way, v []uint64) *Work) Verb {
		return func(args []string) (*Work, error) {
			v, err := ofProcess(args)
			if err != nil {
				return nil, err
			}
			w := &way{}
			return w.turns(make(w, v), open, int(v[0])), nil
		}
	}
	return map[string]Verb{
		"read":  held((*way).reading),
		"write": held((*way).writing),
		"space": held((*way).space),
		"each": func(args []string) (*Work, error) {
			pid, segs, err := scattered(args)
			if err != nil {
				return nil, err
			}
			w := &way{}
			return w.turns(w.each(segs), open, pid), nil
		},
		"open": func(args []string) (*Work, error) {
			v, err := ofProcess(args)
			if err != nil {
				return nil, err
			}
			return opening(open, v), nil
		},
	}
}

// ofProcess takes PID ADDR SIZE.
func ofProcess(args []string) ([]uint64, error) {
	v, err := parse(args)
	if err != nil || len(v) != 3 {
		return nil, errors.Join(fmt.Errorf("not PID ADDR SIZE: %q", args), err)
	}
	return v, nil
}

// turns has w be a way to the process while a request lasts: a tracer is in the way of others.
func (w *way) turns(work *Work, open func(pid int) (*way, error), pid int) *Work {
	work.Enter = func() error {
		now, err := open(pid)
		if err == nil {
			*w = *now
		}
		return err
	}
	work.Leave = func() error { return call(w.close) }
	return work
}

// full is an error unless all was moved.
func full(n int, err error, p []byte) error {
	if n != len(p) {
		return fmt.Errorf("%d bytes of %d: %w", n, len(p), err)
	}
	return nil
}

func (w *way) reading(v []uint64) *Work {
	buf, a := used(v[2]), v[1]
	return &Work{
		Do:     func() error { n, err := w.read(buf, a); return full(n, err, buf) },
		Digest: func() (string, error) { return Sum(buf), nil },
	}
}

// pattern is what is written for the benchmark.
func pattern(size uint64) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte((i>>12)*31 + i%251)
	}
	return b
}

func (w *way) writing(v []uint64) *Work {
	buf, a := pattern(v[2]), v[1]
	return written(v, func() error { n, err := w.write(buf, a); return full(n, err, buf) })
}

// written is the work of writing v, that is PID ADDR SIZE. For a digest the range is
// scrambled first, then it is written, and read back: both by /proc/PID/mem and this program.
func written(v []uint64, do func() error) *Work {
	mem := fmt.Sprintf("/proc/%d/mem", v[0])
	look := func() (_ string, err error) {
		f, err := os.OpenFile(mem, os.O_RDWR, 0)
		if err != nil {
			return "", err
		}
		defer f.Close()
		buf := bytes.Repeat([]byte{0x5a}, int(v[2]))
		if _, err := f.WriteAt(buf, int64(v[1])); err != nil {
			return "", err
		}
		if err := do(); err != nil {
			return "", err
		}
		_, err = f.ReadAt(buf, int64(v[1]))
		return Sum(buf), err
	}
	return &Work{Do: do, Digest: look}
}

// scattered takes PID RANGES: see load.
func scattered(args []string) (pid int, segs []remora.Seg, err error) {
	if len(args) != 2 {
		return 0, nil, fmt.Errorf("not PID RANGES: %q", args)
	}
	if _, err := fmt.Sscan(args[0], &pid); err != nil {
		return 0, nil, err
	}
	segs, _, err = load(args[1])
	return pid, segs, err
}

// got is the digest of what was read of segs.
func got(segs []remora.Seg) string {
	var all bytes.Buffer
	for i := range segs {
		if s := &segs[i]; s.Err == nil {
			all.Write(s.Buf)
		}
	}
	return Sum(all.Bytes())
}

func (w *way) each(segs []remora.Seg) *Work {
	return &Work{
		Do: func() error {
			for i := range segs {
				s := &segs[i]
				n, err := w.read(s.Buf, uint64(s.Addr))
				if s.Err = nil; n == len(s.Buf) {
					continue
				}
				if s.Err = full(n, err, s.Buf); !w.faults(err) {
					return s.Err
				}
			}
			return nil
		},
		Digest: func() (string, error) { return got(segs), nil },
	}
}

// space reads what /proc/PID/maps lists.
func (w *way) space(v []uint64) *Work {
	buf := used(piece)
	walk := func(see seer) error {
		f, err := os.Open(fmt.Sprintf("/proc/%d/maps", v[0]))
		if err != nil {
			return err
		}
		defer f.Close()
		for reg, err := range proc.ParseMaps(bufio.NewReader(f)) {
			if err != nil {
				return err
			}
			if !within(reg, v) {
				continue
			}
			for at := uint64(0); at < reg.Size; at += piece {
				a, p := reg.Start+remora.Addr(at), buf[:min(piece, reg.Size-at)]
				if n, err := w.read(p, uint64(a)); n != len(p) {
					return full(n, err, p)
				}
				see(a, p)
			}
		}
		return nil
	}
	return together([]reading{walk}, contents)
}

// within says whether a region can be read and lies where v, that is PID ADDR SIZE, says.
func within(reg remora.Region, v []uint64) bool {
	return reg.Perm&remora.PermRead != 0 && uint64(reg.Start) >= v[1] && uint64(reg.Last()) < v[1]+v[2]
}

func opening(open func(pid int) (*way, error), v []uint64) *Work {
	buf := used(v[2])
	return &Work{
		Do: func() error {
			w, err := open(int(v[0]))
			if err != nil {
				return err
			}
			n, err := w.read(buf, v[1])
			return errors.Join(full(n, err, buf), call(w.close))
		},
		Digest: func() (string, error) { return Sum(buf), nil },
	}
}

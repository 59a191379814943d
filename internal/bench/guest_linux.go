// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/proc"
	"github.com/remora-go/remora/target"
)

// guests is what the rows about guests of QEMU share. Two have no kernel and stand still:
// one whose memory is a memfd, and one that has it to itself.
type guests struct {
	*bench
	dir    string
	remora string // the command, built
	lab    *lasting
	agent  *vmlab.Agent
	open   []remora.Target
}

// guestBytes is the memory of a guest.
const guestBytes = 256 << 20

// newGuests starts the guests.
func newGuests() (_ part, err error) {
	b := &guests{bench: &bench{page: uint64(os.Getpagesize()), random: rand.New(rand.NewPCG(1, 2))}, lab: &lasting{}}
	defer labDone(b, &err)
	if b.dir, err = os.MkdirTemp("", "remora-"); err != nil {
		return nil, err
	}
	b.remora = filepath.Join(b.dir, "remora")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", b.remora, "github.com/remora-go/remora/cmd/remora").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w: %s", err, out)
	}
	b.agent = vmlab.StartAgent(b.lab, vmlab.Machine{Kernel: vmlab.AMD64v6_1}, nil)
	return b, nil
}

// lasting is a labTest for what lasts until the part is closed.
type lasting struct {
	labTest
	ends []func()
	dirs []string
}

func (l *lasting) Cleanup(f func()) { l.ends = append(l.ends, f) }

func (l *lasting) TempDir() string {
	dir, err := os.MkdirTemp("", "remora-bench-")
	if err != nil {
		l.Fatal(err)
	}
	l.dirs = append(l.dirs, dir)
	return dir
}

func (l *lasting) end() {
	for i := len(l.ends) - 1; i >= 0; i-- {
		l.ends[i]()
	}
	for _, dir := range l.dirs {
		os.RemoveAll(dir)
	}
}

func (b *guests) close() error {
	for _, x := range b.open {
		x.Close()
	}
	b.lab.end()
	return os.RemoveAll(b.dir)
}

// start starts a guest without a kernel, opens it, and fills its memory. host is where
// that lies in QEMU's process.
func (b *guests) start(args ...string) (x remora.Target, host remora.Range, err error) {
	q := vmlab.StartBare(b.lab, append([]string{"-S", "-m", fmt.Sprint(guestBytes >> 20)}, args...)...)
	if x, err = target.Open(context.Background(), "qemu:"+q.QMP()+"@phys", &target.Options{Write: true}); err != nil {
		return nil, host, err
	}
	b.open = append(b.open, x)
	if _, err := x.Memory().WriteAt(context.Background(), make([]byte, guestBytes-(1<<20)), 1<<20); err != nil {
		return nil, host, err
	}
	b.pid = q.PID()
	p, err := proc.Open(b.pid, nil)
	if err != nil {
		return nil, host, err
	}
	defer p.Close()
	for r, err := range p.Regions(context.Background()) {
		if err == nil && r.Size == guestBytes {
			return x, r.Range, nil
		}
	}
	return nil, host, errors.New("QEMU has no mapping of the size of its guest's memory")
}

func (b *guests) rows() ([]row, error) {
	shared, at, err := b.start("-M", "pc,memory-backend=ram", "-object", fmt.Sprintf("memory-backend-memfd,id=ram,size=%d,share=on", guestBytes))
	if err != nil {
		return nil, err
	}
	rows := calibration()
	copies := b.reads("shared memory, 16 MiB, by memcpy", "at most 1.11", shared, at)
	copies.there = func(_ *twin, n int) string { return fmt.Sprintf("copy %d %d", bulk, n) }
	rows = append(rows, copies, b.words(shared), b.vector("shared memory, 1,024 ranges", "", shared, at))
	private, at, err := b.start()
	if err != nil {
		return nil, err
	}
	return append(rows,
		b.reads("private memory, 16 MiB", "at most 1.05", private, at),
		b.vector("private memory, 1,024 ranges", "at most 1.10", private, at),
		row{name: "remora ps of a guest, by /bin/true", limit: "at most 100 ms", wide: true,
			here: command("", b.remora, "ps", "qemu:"+b.agent.QMP()), peer: command("", "/bin/true")},
	), nil
}

// reads is a row that reads a large range, which the twin does in QEMU's process.
func (b *guests) reads(name, limit string, x remora.Target, host remora.Range) row {
	const a = 16 << 20
	pid := b.pid
	segs := []remora.Seg{{Addr: a, Buf: make([]byte, bulk)}}
	clear(segs[0].Buf) // it is a buffer that has been used before
	return row{
		name: name, limit: limit, bytes: bulk,
		here: func(n int) error {
			for range n {
				if _, err := x.Memory().ReadV(context.Background(), segs); err != nil {
					return err
				}
			}
			return nil
		},
		there: func(_ *twin, n int) string {
			return fmt.Sprintf("one %d %x %d %d", pid, uint64(host.Start)+a, bulk, n)
		},
	}
}

// words is a row that reads words here and there in a MiB, each with a call.
func (b *guests) words(x remora.Target) row {
	const many = 4096
	segs := make([]remora.Seg, many)
	for i := range segs {
		segs[i] = remora.Seg{Addr: 16<<20 + remora.Addr(b.random.IntN(1<<17)*word), Buf: make([]byte, word)}
	}
	m, ctx := x.Memory(), context.Background()
	return row{
		name: "shared memory, 8 bytes, by getppid", limit: "at most 60 ns",
		here: func(n int) error {
			for i := range n {
				if _, err := m.ReadV(ctx, segs[i%many:][:1]); err != nil {
					return err
				}
			}
			return nil
		},
		there: func(_ *twin, n int) string { return fmt.Sprint("getppid ", n) },
	}
}

// vector is a row that reads a vector of words, each on a page of its own.
func (b *guests) vector(name, limit string, x remora.Target, host remora.Range) row {
	const from = 16 << 20
	pages := (guestBytes - from) / int(b.page)
	segs := make([]remora.Seg, 0, vector)
	for _, page := range b.random.Perm(pages)[:vector] {
		segs = append(segs, remora.Seg{Addr: from + remora.Addr(page)*remora.Addr(b.page) + remora.Addr(b.random.IntN(int(b.page)/word)*word)})
	}
	packed(segs)
	theirs := make([]remora.Seg, len(segs))
	for i, s := range segs {
		theirs[i] = remora.Seg{Addr: host.Start + s.Addr, Buf: s.Buf}
	}
	m, pid := x.Memory(), b.pid
	return row{
		name: name, limit: limit, prepare: func(t *twin) error { return t.load(theirs) },
		here: func(n int) error {
			for range n {
				if _, err := m.ReadV(context.Background(), segs); err != nil {
					return err
				}
			}
			return nil
		},
		there: func(_ *twin, n int) string { return fmt.Sprintf("vector %d %d", pid, n) },
	}
}

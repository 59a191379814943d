// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/vmcore"
)

// newImages makes the images: of a machine of 1 GiB whose memory is in use.
func newImages() (_ part, err error) {
	dir, err := os.MkdirTemp("", "remora-bench-")
	if err != nil {
		return nil, err
	}
	b := &images{random: rand.New(rand.NewPCG(3, 4))}
	b.dir = dir
	defer labDone(b, &err)
	lab := vmlab.Open(labTest{}, vmlab.Machine{Kernel: vmlab.AMD64v6_1, MiB: 1024, Options: "remora.fill=400"})
	b.elf, b.zlib, b.flat = lab.Dump(vmlab.ELF), lab.Dump(vmlab.MakedumpfileZlib1), lab.Dump(vmlab.KdumpZlib)
	b.kernel = b.elf
	return b, nil
}

// labTest stands for a test: the laboratory asks for one. What would end it is a panic
// with a labFailure.
type labTest struct{ testing.TB }

type labFailure string

func (labTest) Helper()                           {}
func (labTest) Logf(format string, args ...any)   { fmt.Fprintf(os.Stderr, format+"\n", args...) }
func (labTest) Fatal(args ...any)                 { panic(labFailure(fmt.Sprint(args...))) }
func (labTest) Fatalf(format string, args ...any) { panic(labFailure(fmt.Sprintf(format, args...))) }
func (labTest) Skip(args ...any)                  { panic(labFailure(fmt.Sprint(args...))) }
func (labTest) Skipf(format string, args ...any)  { panic(labFailure(fmt.Sprintf(format, args...))) }

// labDone is deferred by what makes a part in the laboratory: what has failed there is the
// error, and with one the part is closed.
func labDone(b part, err *error) {
	switch r := recover().(type) {
	case nil:
	case labFailure:
		*err = errors.New(string(r))
	default:
		panic(r)
	}
	if *err != nil {
		b.close()
	}
}

// dumps are the files that the rows about images read: one moment of one machine.
type dumps struct {
	elf, zlib, flat string // paths
	kernel          string // an image with a kernel in it; empty: no row needs it
	dir             string // for what the rows write
}

// images is what the rows about images share.
type images struct {
	dumps
	random *rand.Rand
	open   []io.Closer
}

func (b *images) twin() (*twin, error) { return startTwin("dump", "-lkdumpfile", "-lpthread") }

func (b *images) close() error {
	for _, m := range b.open {
		m.Close()
	}
	return os.RemoveAll(b.dir)
}

// sizes of what is read
const (
	request   = 1 << 20
	stretch   = 8 << 20 // in one piece
	stretches = 24
	manyWords = 1 << 16
	warmBytes = 32 << 20 // more than libkdumpfile keeps, less than we do
)

func (b *images) rows() ([]row, error) {
	rows := calibration()[:1]
	for _, more := range []func() ([]row, error){b.openRows, b.elfRows, b.zlibRows, b.translateRows} {
		r, err := more()
		if err != nil {
			return nil, err
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

func (b *images) image(path string, o *vmcore.Options) (*vmcore.Image, error) {
	m, err := vmcore.Open(path, o)
	if err == nil {
		b.open = append(b.open, m)
	}
	return m, err
}

func (b *images) openRows() ([]row, error) {
	m, err := b.image(b.elf, nil)
	if err != nil {
		return nil, err
	}
	held, err := saved(m)
	if err != nil {
		return nil, err
	}
	a := held.runs[0].Start
	records, err := flatRecords(b.flat)
	if err != nil {
		return nil, err
	}
	one := func(name, path, peer string, ms int) row {
		return row{
			name: "open and 8 bytes, " + name, limit: fmt.Sprintf("at most %d ms", ms), most: 10,
			here:  func(n int) error { return opens(path, a, n) },
			there: func(_ *twin, n int) string { return fmt.Sprintf("open %s %x %d", peer, uint64(a), n) },
		}
	}
	return []row{
		one("ELF", b.elf, b.elf, 10),
		one("zlib", b.zlib, b.zlib, 10),
		one(fmt.Sprintf("flattened, %d records, by zlib", records), b.flat, b.zlib, 10+records*5/1000),
	}, nil
}

// flatRecords counts the records of a flattened image, up to its end record.
func flatRecords(path string) (n int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	_, err = r.Discard(4096)
	for ; err == nil; n++ {
		var head [16]byte
		if _, err = io.ReadFull(r, head[:]); err != nil {
			break
		}
		size := int64(binary.BigEndian.Uint64(head[8:]))
		if size < 0 {
			return n, nil
		}
		_, err = r.Discard(int(size))
	}
	return 0, fmt.Errorf("%s: %w", path, err)
}

func opens(path string, a remora.Addr, n int) error {
	for range n {
		m, err := vmcore.Open(path, nil)
		if err != nil {
			return err
		}
		if _, err := m.Memory().Uint64(context.Background(), a); err != nil {
			return err
		}
		if err := m.Close(); err != nil {
			return err
		}
	}
	return nil
}

// readings opens an image, and picks what is read of it: large ranges and words.
func (b *images) readings(path string) (m *vmcore.Image, held *content, long, words *reading, err error) {
	if m, err = b.image(path, nil); err != nil {
		return
	}
	if held, err = saved(m); err != nil {
		return
	}
	if long, err = b.ranges(path, held.spread(), request); err != nil {
		return
	}
	words, err = b.ranges(path, b.scatter(held, manyWords), word)
	return
}

func (b *images) elfRows() ([]row, error) {
	m, _, long, words, err := b.readings(b.elf)
	if err != nil {
		return nil, err
	}
	return []row{
		b.sequence("ELF, 1 MiB each, by libkdumpfile", "at most 1.00", m, long, 1, "seq 1"),
		b.sequence("ELF, 1 MiB each, by a copy of the mapping", "at most 1.25", m, long, 1, "copy"),
		b.words("ELF, random 8 bytes, one a call", "at most 0.20", m, words, 1),
		b.words("ELF, random 8 bytes, 1,024 a call", "at most 0.20", m, words, 1024),
	}, nil
}

func (b *images) zlibRows() ([]row, error) {
	m, held, long, words, err := b.readings(b.zlib)
	if err != nil {
		return nil, err
	}
	small, err := b.image(b.zlib, &vmcore.Options{CacheBytes: 4 << 20}) // as much as libkdumpfile keeps
	if err != nil {
		return nil, err
	}
	hot, err := b.ranges(b.zlib, b.scatter(held.few(warmBytes), manyWords), word)
	if err != nil {
		return nil, err
	}
	return []row{
		b.sequence("zlib, 1 MiB each, one thread", "at most 0.83", m, long, 1, "seq 1"),
		wide(b.sequence("zlib, 1 MiB each, two by its one", "at most 0.41", m, long, 2, "seq 1")),
		wide(b.sequence("zlib, 1 MiB each, two by its two", "", m, long, 2, "seq 2")),
		b.words("zlib, random 8 bytes, missing", "at most 1.00", small, words, 1),
		b.words("zlib, random 8 bytes in 32 MiB", "at most 0.10", m, hot, 1),
	}, nil
}

// reading is a list of ranges of one size, and the command that has the twin load it.
type reading struct {
	segs []remora.Seg
	load string
}

func (r *reading) prepare(t *twin) error {
	_, _, err := t.run("%s", r.load)
	return err
}

// ranges gives the ranges at the addresses, of size bytes each.
func (b *images) ranges(path string, at []vmcore.Run, size int) (*reading, error) {
	f, err := os.CreateTemp(b.dir, "ranges")
	if err != nil {
		return nil, err
	}
	w := bufio.NewWriter(f)
	fmt.Fprintln(w, size)
	r := &reading{load: fmt.Sprintf("load %s %s", path, f.Name())}
	buf := make([]byte, size)
	for _, run := range at {
		for off := uint64(0); off+uint64(size) <= run.Size; off += uint64(size) {
			r.segs = append(r.segs, remora.Seg{Addr: run.Start + remora.Addr(off), Buf: buf})
			fmt.Fprintf(w, "%x %x\n", uint64(run.Start)+off, max(run.Offset, 0)+int64(off))
		}
	}
	if err := w.Flush(); err != nil {
		return nil, err
	}
	return r, f.Close()
}

// sequence is a row that reads all ranges, one call each.
func (b *images) sequence(name, limit string, m *vmcore.Image, r *reading, threads int, there string) row {
	return row{
		name: name, limit: limit, prepare: r.prepare, bytes: len(r.segs) * len(r.segs[0].Buf),
		here: func(n int) error {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
			for range n {
				if err := readAll(m, r.segs, threads); err != nil {
					return err
				}
			}
			return nil
		},
		there: func(_ *twin, n int) string { return fmt.Sprint(there, " ", n) },
	}
}

// readAll reads the ranges, in as many parts as there are threads.
func readAll(m *vmcore.Image, segs []remora.Seg, threads int) error {
	if threads == 1 {
		return readPart(m, segs)
	}
	var wg sync.WaitGroup
	errs := make([]error, threads)
	for i := range threads {
		part := segs[len(segs)*i/threads : len(segs)*(i+1)/threads]
		own := make([]remora.Seg, len(part))
		buf := make([]byte, len(part[0].Buf))
		for k := range part {
			own[k] = remora.Seg{Addr: part[k].Addr, Buf: buf}
		}
		wg.Go(func() { errs[i] = readPart(m, own) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func readPart(m *vmcore.Image, segs []remora.Seg) error {
	for i := range segs {
		if _, err := m.Transfer(context.Background(), remora.Read, segs[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// words is a row that reads a range for each time, as many in one call as each says. The
// peer reads one a call: it has no other way.
func (b *images) words(name, limit string, m *vmcore.Image, r *reading, each int) row {
	return row{
		name: name, limit: limit, prepare: r.prepare,
		here: func(n int) error {
			ctx := context.Background()
			for n > 0 {
				for segs := r.segs; n > 0 && len(segs) > 0; {
					k := min(each, n, len(segs))
					if _, err := m.Transfer(ctx, remora.Read, segs[:k]); err != nil {
						return err
					}
					segs, n = segs[k:], n-k
				}
			}
			return nil
		},
		there: func(_ *twin, n int) string { return fmt.Sprint("words ", n) },
	}
}

// content is what an image holds: its runs, and how many bytes lie before each.
type content struct {
	runs   []vmcore.Run
	before []uint64
	total  uint64
}

// saved gives what the image holds.
func saved(m *vmcore.Image) (*content, error) {
	c := &content{}
	for r, err := range m.Runs(context.Background()) {
		if err != nil {
			return nil, err
		}
		if r.Err == nil {
			c.runs = append(c.runs, r)
			c.before = append(c.before, c.total)
			c.total += r.Size
		}
	}
	if c.total == 0 {
		return nil, fmt.Errorf("%s: nothing is saved", m.Info().Name)
	}
	return c, nil
}

// cut gives size bytes from the byte at off on, counted through all runs, if they lie in
// one.
func (c *content) cut(off, size uint64) (vmcore.Run, bool) {
	i, found := slices.BinarySearch(c.before, off)
	if !found {
		i--
	}
	r := c.runs[i]
	off -= c.before[i]
	if off >= r.Size || r.Size-off < size {
		return r, false
	}
	r.Start += remora.Addr(off)
	if r.Offset >= 0 {
		r.Offset += int64(off)
	}
	r.Size = size
	return r, true
}

// spread gives stretches of memory, as far from each other as can be.
func (c *content) spread() []vmcore.Run {
	var all []vmcore.Run
	step := c.total / stretches
	for i := range uint64(stretches) {
		if r, ok := c.cut(i*step, min(stretch, step)); ok {
			all = append(all, r)
		}
	}
	return all
}

// few gives about size bytes of memory in one piece, from the middle on.
func (c *content) few(size uint64) *content {
	for off := c.total / 2; off < c.total; off += request {
		if r, ok := c.cut(off, min(size, c.total/4)); ok {
			return &content{runs: []vmcore.Run{r}, before: []uint64{0}, total: r.Size}
		}
	}
	return c
}

// scatter gives n words at random places.
func (b *images) scatter(c *content, n int) []vmcore.Run {
	all := make([]vmcore.Run, 0, n)
	for len(all) < n {
		if r, ok := c.cut(b.random.Uint64N(c.total)&^(word-1), word); ok {
			all = append(all, r)
		}
	}
	return all
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"debug/elf"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/target"
	"github.com/remora-go/remora/vmcore"
)

// How much is read.
const (
	request     = 1 << 20
	stretch     = 8 << 20 // of requests, in one piece
	stretches   = 12
	wordSize    = 8
	manyWords   = 4096
	warmBytes   = 32 << 20 // less than a cache of 64 MiB
	mappedPages = 4096
)

// content is memory that an image holds: its runs, and how many bytes lie before each.
type content struct {
	runs   []vmcore.Run
	before []uint64
	total  uint64
}

// saved gives what an image holds.
func saved(m *vmcore.Image) (*content, error) {
	c := &content{}
	for r, err := range m.Runs(context.Background()) {
		if err != nil {
			return nil, err
		}
		if r.Err == nil && !r.Zeros {
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
func (c *content) cut(off, size uint64) (remora.Range, bool) {
	i, found := slices.BinarySearch(c.before, off)
	if !found {
		i--
	}
	r := c.runs[i].Range
	off -= c.before[i]
	if off >= r.Size || r.Size-off < size {
		return r, false
	}
	return remora.Range{Start: r.Start + remora.Addr(off), Size: size}, true
}

// spread gives n stretches of memory, as far from each other as can be: each is the first
// that fits from a place on.
func (c *content) spread(n int) []remora.Range {
	var all []remora.Range
	for i := range uint64(n) {
		for off := c.total / uint64(n) * i &^ 4095; off < c.total; off += request {
			if r, ok := c.cut(off, stretch); ok {
				all = append(all, r)
				break
			}
		}
	}
	return all
}

// few gives about size bytes of memory in one piece, from the middle on.
func (c *content) few(size uint64) *content {
	for off := c.total / 2; off < c.total; off += request {
		if r, ok := c.cut(off&^4095, size); ok {
			return &content{runs: []vmcore.Run{{Range: r}}, before: []uint64{0}, total: r.Size}
		}
	}
	return c
}

// scatter gives n words at random places, the same ones each time.
func (c *content) scatter(n int) []remora.Range {
	random := rand.New(rand.NewPCG(3, 4))
	all := make([]remora.Range, 0, n)
	for len(all) < n {
		if r, ok := c.cut(random.Uint64N(c.total)&^(wordSize-1), wordSize); ok {
			all = append(all, r)
		}
	}
	return all
}

// offset gives where an address lies in the file as it is.
func (c *content) offset(a remora.Addr) int64 {
	for _, r := range c.runs {
		if a >= r.Start && a <= r.Last() && r.Offset >= 0 {
			return r.Offset + int64(a-r.Start)
		}
	}
	return 0
}

// lister writes lists of what is read: see play.List.
type lister struct {
	dir   string
	whole *content // where what lies in the file
	err   error
}

// list writes a list of pieces of that size, and gives its path.
func (l *lister) list(name string, all []remora.Range, size uint64) string {
	path := filepath.Join(l.dir, name)
	f, err := os.Create(path)
	if err != nil {
		l.err = err
		return ""
	}
	w := bufio.NewWriter(f)
	fmt.Fprintln(w, size)
	for _, r := range all {
		for off := uint64(0); off+size <= r.Size; off += size {
			a := r.Start + remora.Addr(off)
			fmt.Fprintf(w, "%x %x\n", uint64(a), l.whole.offset(a))
		}
	}
	if len(all) == 0 {
		l.err = fmt.Errorf("%s: nothing to read", name)
	}
	for _, err := range []error{w.Flush(), f.Close()} {
		if err != nil {
			l.err = err
		}
	}
	return path
}

// kernelPages gives pages that the kernel has mapped, in random order.
func kernelPages(k *target.Kernel) []remora.Range {
	var pages []remora.Range
	for r, err := range k.Regions(context.Background()) {
		if err != nil {
			return nil
		}
		for off := uint64(0); off < r.Size && len(pages) < mappedPages; off += 4096 {
			pages = append(pages, remora.Range{Start: r.Start + remora.Addr(off), Size: 4096})
		}
	}
	random := rand.New(rand.NewPCG(5, 6))
	random.Shuffle(len(pages), func(i, j int) { pages[i], pages[j] = pages[j], pages[i] })
	return pages
}

// functions gives the names of the functions in an ELF file that no other symbol has.
func functions(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	count := map[string]int{}
	for _, s := range all {
		count[s.Name]++
	}
	var names []string
	for _, s := range all {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && count[s.Name] == 1 {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// SPDX-License-Identifier: Apache-2.0

package play

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"runtime"
	"strconv"
	"sync"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/target"
	"github.com/remora-go/remora/vmcore"
)

// Image gives what Remora does with kernel images for the benchmark. FILE is an image; RANGES
// and ADDRESSES are files that list what is read: see List.
//
//	open FILE ADDR              open it, and read 8 bytes of physical memory
//	seq FILE RANGES THREADS     read physical memory, each thread its part of the ranges
//	words FILE RANGES EACH MIB  the same for words, EACH in a call, with a cache of so many MiB
//	kernel FILE ADDR            open it, and read 8 bytes of the kernel
//	first FILE NAME             open it, and read the byte that is at a symbol
//	symbol FILE NAME            open it, and find a symbol
//	lookup FILE NAMES           find the symbols that a file names, one at a time
//	symbols FILE NAMES          open it, and list all symbols: the digest is that of some
//	ps FILE                     list the processes
//	process FILE PID ADDR SIZE  read memory of a process
//	mappings FILE PID           list what it has mapped
//	translate FILE ADDRESSES    find physical addresses
//	registers FILE              open it, and find the page tables by the registers in it alone
//	search FILE START+SIZE...   open raw memory of those ranges, and find the page tables
func Image() map[string]Verb {
	return map[string]Verb{
		"open":      takes(2, openImage),
		"seq":       takes(3, readRanges),
		"words":     takes(4, readWords),
		"kernel":    takes(2, openKernel),
		"first":     takes(2, firstByte),
		"symbol":    takes(2, oneSymbol),
		"lookup":    takes(2, lookup),
		"symbols":   takes(2, allSymbols),
		"ps":        takes(1, processes),
		"process":   takes(4, readProcess),
		"mappings":  takes(2, mappings),
		"translate": takes(2, translate),
		"registers": takes(1, byRegisters),
		"search":    bySearch,
	}
}

// List reads a file of ranges: how long each is, and a line for each with its address and
// where in the image it lies as it is, in hexadecimal.
func List(path string) (at []remora.Addr, size int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	in.Scan()
	if _, err := fmt.Sscan(in.Text(), &size); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	for in.Scan() {
		var a, off uint64
		if _, err := fmt.Sscanf(in.Text(), "%x %x", &a, &off); err != nil {
			return nil, 0, fmt.Errorf("%s: %q: %w", path, in.Text(), err)
		}
		at = append(at, remora.Addr(a))
	}
	return at, size, in.Err()
}

func openImage(args []string) (*Work, error) {
	addr, err := parse(args[1:])
	if err != nil {
		return nil, err
	}
	word := make([]byte, 8)
	return &Work{
		Do: func() error {
			m, err := vmcore.Open(args[0], nil)
			if err != nil {
				return err
			}
			_, err = m.Memory().ReadAt(context.Background(), word, remora.Addr(addr[0]))
			return errors.Join(err, m.Close())
		},
		Digest: func() (string, error) { return Sum(word), nil },
	}, nil
}

// spread is the reading of ranges by some threads, each in a way and a buffer of its own.
type spread struct {
	at    []remora.Addr
	reads []func(a remora.Addr) error
	bufs  [][]byte
	crcs  []byte // of each range, where wanted
}

// by adds a thread.
func (s *spread) by(read func(a remora.Addr) error, buf []byte) {
	s.reads, s.bufs = append(s.reads, read), append(s.bufs, buf)
}

// work is the reading of all ranges. Its digest is that of the checksums of them.
func (s *spread) work(close func() error) *Work {
	s.crcs = make([]byte, 4*len(s.at))
	return &Work{
		Do:     func() error { return s.all(false) },
		Digest: func() (string, error) { err := s.all(true); return Sum(s.crcs), err },
		Close:  close,
	}
}

// part reads what one thread has to.
func (s *spread) part(thread int, sum bool) error {
	n := len(s.reads)
	for i := len(s.at) * thread / n; i < len(s.at)*(thread+1)/n; i++ {
		if err := s.reads[thread](s.at[i]); err != nil {
			return err
		}
		if sum {
			binary.LittleEndian.PutUint32(s.crcs[4*i:], crc32.ChecksumIEEE(s.bufs[thread]))
		}
	}
	return nil
}

func (s *spread) all(sum bool) error {
	if len(s.reads) == 1 {
		return s.part(0, sum)
	}
	var wg sync.WaitGroup
	errs := make([]error, len(s.bufs))
	for i := range errs {
		wg.Go(func() { errs[i] = s.part(i, sum) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func readRanges(args []string) (*Work, error) {
	at, size, err := List(args[1])
	if err != nil {
		return nil, err
	}
	threads, err := strconv.Atoi(args[2])
	if err != nil {
		return nil, err
	}
	m, err := vmcore.Open(args[0], nil)
	if err != nil {
		return nil, err
	}
	before := runtime.GOMAXPROCS(threads) // those who inflate count, too
	s := &spread{at: at}
	for range threads {
		segs, ctx := []remora.Seg{{Buf: used(uint64(size))}}, context.Background()
		s.by(func(a remora.Addr) error {
			segs[0].Addr = a
			_, err := m.Transfer(ctx, remora.Read, segs)
			return err
		}, segs[0].Buf)
	}
	return s.work(func() error {
		runtime.GOMAXPROCS(before)
		return m.Close()
	}), nil
}

func readWords(args []string) (*Work, error) {
	at, size, err := List(args[1])
	if err != nil {
		return nil, err
	}
	numbers, err := parse(args[2:])
	if err != nil {
		return nil, err
	}
	m, err := vmcore.Open(args[0], &vmcore.Options{CacheBytes: int(numbers[1]) << 20})
	if err != nil {
		return nil, err
	}
	all := used(uint64(size * len(at)))
	segs := make([]remora.Seg, len(at))
	for i, a := range at {
		segs[i] = remora.Seg{Addr: a, Buf: all[i*size:][:size]}
	}
	ctx, each := context.Background(), int(numbers[0])
	return &Work{
		Do: func() error {
			for rest := segs; len(rest) > 0; {
				n := min(each, len(rest))
				if _, err := m.Transfer(ctx, remora.Read, rest[:n]); err != nil {
					return err
				}
				rest = rest[n:]
			}
			return nil
		},
		Digest: func() (string, error) { return Sum(all), nil },
		Close:  m.Close,
	}, nil
}

// openTarget opens the kernel in an image.
func openTarget(path string, o *target.Options) (*target.Kernel, error) {
	t, err := target.Open(context.Background(), "vmcore:"+path, o)
	if err != nil {
		return nil, err
	}
	return t.(*target.Kernel), nil
}

// fresh is work with a kernel that is opened for it each time.
func fresh(path string, o *target.Options, do func(k *target.Kernel) error, digest func() (string, error)) *Work {
	return &Work{
		Do: func() error {
			k, err := openTarget(path, o)
			if err != nil {
				return err
			}
			return errors.Join(do(k), k.Close())
		},
		Digest: digest,
	}
}

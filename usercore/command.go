// SPDX-License-Identifier: Apache-2.0

package usercore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/remora-go/remora"
)

const (
	auxExecFN = 31

	// How far before AT_RANDOM the auxiliary vector ends at most: there is only padding
	// in between. Before AT_EXECFN lie the strings as well.
	randomGap = 4 << 10
	execGap   = 128 << 10

	maxVector = 1 << 20  // pointers in both vectors
	maxString = 1 << 21  // bytes: MAX_ARG_STRLEN with pages of 64 KiB
	maxTotal  = 64 << 20 // bytes of all strings
)

// Command gives the arguments and the environment of the process, from its stack: the
// vectors that the program was started with, with the strings as they were when the core
// was made. The kernel puts them before the auxiliary vector (create_elf_tables in
// fs/binfmt_elf.c), which is known from NT_AUXV. The program may have moved its own
// environment elsewhere since; that is not followed.
//
// Where a string is not in the core, the vectors end before it, and the error is a
// *remora.Fault.
func (c *Core) Command(ctx context.Context) (argv, envp []string, err error) {
	at, err := c.findAuxv(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: the arguments on the stack: %w", c.info.Name, err)
	}
	v := vectors{ctx: ctx, mem: c.mem, word: remora.Addr(c.file.WordSize()), at: at, left: maxVector}
	env, err := v.back(func(_ int, word remora.Addr) bool { return word == 0 })
	if err != nil {
		return nil, nil, err
	}
	args, err := v.back(func(n int, word remora.Addr) bool { return word == remora.Addr(n) })
	if err != nil {
		return nil, nil, err
	}
	budget := maxTotal
	if argv, err = v.strings(args, &budget); err == nil {
		envp, err = v.strings(env, &budget)
	}
	return argv, envp, err
}

// findAuxv gives the address of the auxiliary vector on the stack. It lies before the
// random bytes, or before the name of the program where there are none.
func (c *Core) findAuxv(ctx context.Context) (remora.Addr, error) {
	end, gap := c.auxValue(auxRandom), uint64(randomGap)
	if end == 0 {
		end, gap = c.auxValue(auxExecFN), execGap
	}
	if end == 0 {
		return 0, fmt.Errorf("no auxiliary vector tells where they are: %w", errors.ErrUnsupported)
	}
	w := c.file.WordSize()
	pattern := make([]byte, 0, 2*w*len(c.auxv)+w)
	for _, a := range c.auxv {
		pattern = c.appendWord(c.appendWord(pattern, a.Tag), a.Value)
	}
	pattern = c.appendWord(pattern, 0) // AT_NULL
	size := min(end, gap+uint64(len(pattern)))
	window := make([]byte, size)
	first, err := c.tail(ctx, window, remora.Addr(end-size))
	if err != nil {
		return 0, err
	}
	for i := len(window) - len(pattern); i >= first; i-- {
		if a := remora.Addr(end-size) + remora.Addr(i); a%remora.Addr(w) == 0 && bytes.Equal(window[i:i+len(pattern)], pattern) {
			return a, nil
		}
	}
	return 0, fmt.Errorf("the auxiliary vector is not on the stack before %v: %w", remora.Addr(end), remora.ErrCorrupt)
}

// tail reads as much of buf as is there up to its end, which must be something, and
// gives the index where it begins.
func (c *Core) tail(ctx context.Context, buf []byte, a remora.Addr) (first int, err error) {
	first = len(buf)
	for step := 256; first > 0; {
		n := min(step, first)
		if _, err = c.mem.ReadAt(ctx, buf[first-n:first], a+remora.Addr(first-n)); err == nil {
			first -= n
		} else if step == 1 {
			break
		} else {
			step = 1
		}
	}
	if first == len(buf) {
		return first, err
	}
	return first, nil
}

func (c *Core) appendWord(b []byte, v uint64) []byte {
	var w [8]byte
	if c.file.WordSize() == 8 {
		c.file.Order().PutUint64(w[:], v)
		return append(b, w[:]...)
	}
	c.file.Order().PutUint32(w[:], uint32(v))
	return append(b, w[:4]...)
}

// vectors walks down the stack, from the auxiliary vector to the count of arguments.
type vectors struct {
	ctx  context.Context
	mem  *remora.Memory
	word remora.Addr
	at   remora.Addr // what lies below is still to be looked at
	left int         // how many words that may be
}

// back gives the pointers of the vector whose NULL lies right below at, and moves at to
// the first of them. before says whether a word, with n pointers behind it, is the one
// that comes before the vector.
func (v *vectors) back(before func(n int, word remora.Addr) bool) ([]remora.Addr, error) {
	null, err := v.mem.Addr(v.ctx, v.at-v.word)
	if err != nil {
		return nil, err
	}
	if null != 0 {
		return nil, fmt.Errorf("%s: stack at %v: a vector that ends with 0x%x, not 0: %w", v.mem.Info().Name, v.at-v.word, uint64(null), remora.ErrCorrupt)
	}
	var list []remora.Addr
	for v.at -= v.word; ; v.at -= v.word {
		w, err := v.mem.Addr(v.ctx, v.at-v.word)
		switch {
		case err != nil:
			return nil, err
		case before(len(list), w):
			slices.Reverse(list)
			return list, nil
		case v.left == 0:
			return nil, fmt.Errorf("%s: stack at %v: a vector without a beginning: %w", v.mem.Info().Name, v.at, remora.ErrCorrupt)
		}
		v.left--
		list = append(list, w)
	}
}

// strings reads the strings that the pointers lead to.
func (v *vectors) strings(list []remora.Addr, budget *int) ([]string, error) {
	out := []string{}
	for _, a := range list {
		s, err := v.mem.CString(v.ctx, a, min(maxString, *budget))
		if err != nil {
			return out, err
		}
		*budget -= len(s)
		out = append(out, s)
	}
	return out, nil
}

// SPDX-License-Identifier: Apache-2.0

package usercore_test

import (
	"context"
	"debug/elf"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
)

const stackTop = 0x7ff00000

// stackOf lays out the stack of a new process as create_elf_tables in the kernel does:
// the count, the vectors, the auxiliary vector, random bytes, strings. It gives the bytes,
// which end at stackTop, and the auxiliary vector.
func stackOf(c *testimage.Core, argv, envp []string, random bool) (stack []byte, auxv []uint64) {
	var text []byte
	for _, s := range slices.Concat(argv, envp, []string{"/bin/prog"}) {
		text = append(append(text, s...), 0)
	}
	text = append(text, make([]byte, c.WordSize())...)
	at := uint64(stackTop - len(text))
	exec := uint64(stackTop - len(text) + len(strings.Join(slices.Concat(argv, envp, []string{""}), "\x00")))
	auxv = []uint64{6, page, 31, exec}
	if random {
		auxv = append(auxv, 25, (at-100)&^15) // below the strings, at some distance
	}
	var words []any
	add := func(list []string) {
		for _, s := range list {
			words = append(words, testimage.Word(at))
			at += uint64(len(s)) + 1
		}
		words = append(words, testimage.Word(0))
	}
	words = append(words, testimage.Word(len(argv)))
	add(argv)
	add(envp)
	for _, w := range append(auxv, 0, 0) {
		words = append(words, testimage.Word(w))
	}
	table := c.Put(nil, words...)
	gap := 100 + 15 + 8 + c.WordSize()
	for (stackTop-len(text)-gap-len(table))%c.WordSize() != 0 {
		gap++
	}
	return slices.Concat(table, make([]byte, gap), text), auxv
}

// withStack is a core that has this stack.
func withStack(c testimage.Core, stack []byte, auxv []uint64) []byte {
	c.Notes = []testimage.Note{c.PRStatus(1, 11, make([]uint64, 27)...), c.Auxv(auxv...)}
	c.Loads = []testimage.Load{{Addr: uint64(stackTop - len(stack)), Data: stack, Flags: elf.PF_R | elf.PF_W}}
	return c.Bytes()
}

func TestCommand(t *testing.T) {
	long := slices.Repeat([]string{"x"}, 3000)
	for name, c := range map[string]struct {
		core testimage.Core
		argv []string
		envp []string
	}{
		"plain":          {testimage.Core{}, []string{"prog", "-x", "a b"}, []string{"A=1", "B="}},
		"32 bits":        {testimage.Core{Narrow: true, Machine: elf.EM_386}, []string{"prog", "\xff"}, []string{"A=1"}},
		"big-endian":     {testimage.Core{BigEndian: true, Machine: elf.EM_S390}, []string{"prog"}, []string{"A=1"}},
		"both":           {testimage.Core{Narrow: true, BigEndian: true, Machine: elf.EM_PPC}, []string{"prog"}, []string{"A=1"}},
		"no environment": {testimage.Core{}, []string{"prog"}, nil},
		"no arguments":   {testimage.Core{}, nil, []string{"A=1"}},
		"nothing":        {testimage.Core{}, nil, nil},
		"empty strings":  {testimage.Core{}, []string{"", "", ""}, []string{"", ""}},
		"many":           {testimage.Core{}, long, long},
	} {
		for _, random := range []bool{true, false} {
			stack, auxv := stackOf(&c.core, c.argv, c.envp, random)
			argv, envp, err := open(t, withStack(c.core, stack, auxv)).Command(t.Context())
			if err != nil || !slices.Equal(argv, c.argv) || !slices.Equal(envp, c.envp) {
				t.Errorf("%s: %q, %q, %v", name, argv, envp, err)
			}
		}
	}
}

func TestCommandThatIsNotThere(t *testing.T) {
	var c testimage.Core
	argv, envp := []string{"prog", "lost", "behind"}, []string{"A=1"}
	stack, auxv := stackOf(&c, argv, envp, true)
	word := func(i int, v uint64) []byte {
		b := slices.Clone(stack)
		c.Order().PutUint64(b[8*i:], v)
		return b
	}
	for name, bad := range map[string]struct {
		core []byte
		argv []string
		want error
	}{
		"no auxv":             {withStack(c, stack, nil), nil, errors.ErrUnsupported},
		"no address in auxv":  {withStack(c, stack, []uint64{6, page}), nil, errors.ErrUnsupported},
		"another auxv":        {withStack(c, stack, append(slices.Clone(auxv), 7, 7)), nil, remora.ErrCorrupt},
		"no stack":            {withStack(c, nil, auxv), nil, remora.ErrFault},
		"half of the stack":   {withStack(c, stack[16:], auxv), nil, remora.ErrFault},
		"no NULL":             {withStack(c, word(6, 5), auxv), nil, remora.ErrCorrupt},
		"a string elsewhere":  {withStack(c, word(2, 0x1000), auxv), []string{"prog"}, remora.ErrFault},
		"a count that is off": {withStack(c, word(0, 9), auxv), nil, remora.ErrFault},
	} {
		argv, envp, err := open(t, bad.core).Command(t.Context())
		if !errors.Is(err, bad.want) || !slices.Equal(argv, bad.argv) || len(envp) != 0 {
			t.Errorf("%s: %q, %q, %v: want %q and %v", name, argv, envp, err, bad.argv, bad.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := open(t, withStack(c, stack, auxv)).Command(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

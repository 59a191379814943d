// SPDX-License-Identifier: Apache-2.0

package usercore

import (
	"context"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/elfcore"
	"github.com/remora-go/remora/internal/xfer"
)

// Options say how a core is opened. nil is the same as the zero Options.
type Options struct {
	// Files has memory that the core left out, and that was mapped from an ELF
	// file, read from that file, where its build id is the one in the core.
	Files bool
	// Root is put before the paths of mapped files; empty means the root of this
	// system. Symbolic links below it are followed as the system follows them.
	Root string
}

// Core is an open core file: a remora.Target and its only Space.
type Core struct {
	gate  xfer.Gate
	file  *elfcore.File
	own   []io.Closer // what Close closes
	mem   *remora.Memory
	info  remora.Info
	table []extent     // by address; what lies in none of them is a hole of cause gap
	gap   remora.Cause // of addresses that the core does not mention

	maker    Maker
	regions  []region // by address
	notes    []Note
	auxv     []Aux
	files    []mapping // NT_FILE
	delve    delveHeader
	process  Process
	threads  int
	backs    map[string]*backing // by name in NT_FILE; nil unless asked for
	problems []error             // what is damaged, or cut off, and was passed over
}

var (
	_ remora.Target    = (*Core)(nil)
	_ remora.Space     = (*Core)(nil)
	_ remora.Mapper    = (*Core)(nil)
	_ remora.Describer = (*Core)(nil)
	_ remora.Explainer = (*Core)(nil)
	_ xfer.Mover       = (*mover)(nil)
)

// Open opens the core file at path. A file that is no core of a user process gives
// a *remora.FormatError that Is remora.ErrUnrecognized.
func Open(path string, o *Options) (*Core, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		got := "a special file"
		if st.IsDir() {
			got = "a directory"
		}
		return nil, &remora.FormatError{File: path, Want: "a core file", Got: got, Err: remora.ErrUnrecognized}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if st, err = f.Stat(); err != nil {
		f.Close()
		return nil, err
	}
	c, err := New(f, st.Size(), path, o)
	if err != nil {
		f.Close()
		return nil, err
	}
	c.own = append(c.own, f)
	return c, nil
}

// New opens a core of size bytes that r reads; name is for messages. r must be
// safe for concurrent use, as io.ReaderAt asks for, and Close leaves it open.
func New(r io.ReaderAt, size int64, name string, o *Options) (*Core, error) {
	f, err := elfcore.Read(r, size, name)
	if err != nil {
		return nil, err
	}
	bad := func(off int64, cause error, want, got string) error {
		return &remora.FormatError{File: name, Offset: off, Want: want, Got: got, Err: cause}
	}
	if f.Type != elf.ET_CORE {
		return nil, bad(16, remora.ErrUnrecognized, "a core file (ET_CORE)", f.Type.String())
	}
	if len(f.Progs) == 0 {
		return nil, bad(f.ProgOff, remora.ErrCorrupt, "program headers", "none")
	}
	c := &Core{file: f}
	c.mem = remora.New(c)
	if err := c.readNotes(); err != nil {
		return nil, err
	}
	if kind := c.kernelImage(); kind != "" {
		return nil, bad(0, remora.ErrUnrecognized, "the core of a user process", kind)
	}
	c.maker = c.guessMaker()
	if c.gap = remora.ErrFault; c.maker == Linux {
		c.gap = remora.ErrUnmapped
	}
	if err := c.build(r, o); err != nil {
		return nil, err
	}
	c.info = remora.Info{
		Name:      filepath.Base(name),
		Ops:       remora.StopAtFault | remora.Force | remora.Resident,
		PtrSize:   uint8(c.file.WordSize()),
		BigEndian: f.BigEndian,
		Granule:   c.granule(),
		Last:      c.file.Last(),
	}
	return c, nil
}

// Memory is the memory of the process. Core itself is its Space.
func (c *Core) Memory() *remora.Memory { return c.mem }

// Info gives the facts of the Space: read-only, and not live.
func (c *Core) Info() remora.Info { return c.info }

// Close waits for running calls and closes the core file and the files that
// memory was read from. It may be called more than once.
func (c *Core) Close() error {
	if !c.gate.Close() {
		return nil
	}
	var first error
	for _, f := range c.own {
		if err := f.Close(); err != nil && first == nil {
			first = fmt.Errorf("close %s: %w", c.info.Name, err)
		}
	}
	return first
}

// Transfer reads memory, and keeps the contract of remora.Space. Force and
// Resident change nothing: what was saved is there, whatever its protection was.
func (c *Core) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if err := c.gate.Admit(op, c.info.Ops, false); err != nil {
		return xfer.Refuse(segs, err)
	}
	defer c.gate.Leave()
	return xfer.Each(ctx, op, segs, (*mover)(c))
}

// mover is a Core as the transfer engine sees it.
type mover Core

// Move reads a prefix of buf.
func (m *mover) Move(_ context.Context, _ remora.Op, a remora.Addr, buf []byte) (int, error) {
	return read(m.table, a, buf, m.gap)
}

// SPDX-License-Identifier: Apache-2.0

package usercore_test

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/usercore"
)

// A core is asked why the process died, what was mapped, and what memory held.
// What the core does not hold is an error that says so, never zeros.
func Example() {
	path, remove := exampleCore()
	defer remove()

	core, err := usercore.Open(path, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer core.Close()

	p := core.Process()
	fmt.Printf("%s, signal %d at %v\n", p.Command, p.Signal.Number, p.Signal.Addr)
	threads, err := core.Threads()
	if err != nil {
		log.Fatal(err)
	}
	for _, t := range threads {
		rax, _ := t.Reg("rax")
		fmt.Printf("thread %d: pc %v, rax %#x\n", t.ID, t.PC, rax)
	}
	ctx := context.Background()
	for r, err := range core.Regions(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%v %v %q\n", r.Range, r.Perm, r.Name)
	}

	buf := make([]byte, 32)
	n, err := core.Memory().ReadAt(ctx, buf, 0x7ff8)
	fmt.Printf("%d bytes: %q\n", n, buf[:n])
	fmt.Println(err)
	fmt.Println(errors.Is(err, remora.ErrNotSaved))
	// Output:
	// victim, signal 11 at 0x10
	// thread 4711: pc 0x8004, rax 0x2a
	// 0x7000+0x1000 rw- ""
	// 0x8000+0x1000 r-x "/bin/victim"
	// 8 bytes: "the end."
	// read core:0x8000: not saved in this dump: in 0x8000+0x1000 r-x "/bin/victim" at 0x0: the core holds 0x0 of 0x1000 bytes
	// true
}

// exampleCore writes a small core, and gives its path.
func exampleCore() (path string, remove func()) {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	regs := make([]uint64, 27)
	regs[10], regs[16] = 42, 0x8004 // rax, rip
	data := make([]byte, 4096)
	copy(data[4088:], "the end.")
	var c testimage.Core
	c.Notes = []testimage.Note{c.PRStatus(4711, 11, regs...), c.PRPSInfo(4711, 0, "victim", "victim"), c.SigInfo(11, 1, 0x10),
		c.Files(testimage.Mapping{Start: 0x8000, End: 0x9000, Name: "/bin/victim"})}
	c.Loads = []testimage.Load{
		{Addr: 0x7000, Data: data, Flags: elf.PF_R | elf.PF_W},
		{Addr: 0x8000, Mem: 4096, Flags: elf.PF_R | elf.PF_X}}
	path = filepath.Join(dir, "core")
	if err := os.WriteFile(path, c.Bytes(), 0o600); err != nil {
		log.Fatal(err)
	}
	return path, func() { os.RemoveAll(dir) }
}

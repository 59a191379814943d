// SPDX-License-Identifier: Apache-2.0

package vmcore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/vmcore"
)

// An image is asked what it holds, and read. What it does not hold is an error that says
// why, never zeros.
func Example() {
	path, remove := exampleImage()
	defer remove()

	img, err := vmcore.Open(path, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer img.Close()

	meta := img.Meta()
	fmt.Printf("%s by %s, %v, Linux %s\n", meta.Format, meta.Maker, meta.Machine, meta.Uname[2])
	ctx := context.Background()
	for r, err := range img.Runs(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%v: %v\n", r.Range, r.Err)
	}

	buf := make([]byte, 32)
	n, err := img.Memory().ReadAt(ctx, buf, 0x11ff8)
	fmt.Printf("%q, left out: %v\n", buf[:n], errors.Is(err, remora.ErrNotSaved))
	// Output:
	// elf by makedumpfile, EM_X86_64, Linux 6.1.0-example
	// 0x10000+0x2000: <nil>
	// 0x12000+0x1000: not saved in this dump
	// "the end.", left out: true
}

// exampleImage writes the image of a machine with three pages of memory.
func exampleImage() (path string, remove func()) {
	mem := &testimage.Physical{}
	mem.Write(0x10000, make([]byte, 0x2000))
	mem.Write(0x11ff8, []byte("the end."))
	mem.Mark(0x12, 1, testimage.Excluded)
	image := testimage.VMCore{Mem: mem, Notes: []testimage.Note{
		testimage.VMCoreInfoNote(testimage.VMCoreInfo("OSRELEASE", "6.1.0-example", "PAGESIZE", "4096"))}}
	dir, err := os.MkdirTemp("", "remora-*")
	if err != nil {
		log.Fatal(err)
	}
	path = filepath.Join(dir, "vmcore")
	if err := os.WriteFile(path, image.Bytes(), 0o600); err != nil {
		log.Fatal(err)
	}
	return path, func() { os.RemoveAll(dir) }
}

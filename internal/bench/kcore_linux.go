// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/vmcore"
)

// kcoreTwin is the compiled twin of the part kcore, in a guest.
const kcoreTwin = "/bin/twin"

// kcores is what the rows about /proc/kcore share. They are run in a guest, where this same
// program is carried, with the twin.
type kcores struct {
	img   *vmcore.Image
	free  kcorePart // memory that is zeros, most of it
	image kcorePart // the image of the kernel
	buf   []byte
}

// kcorePart is a stretch of memory, and where it is in the file.
type kcorePart struct {
	at  remora.Addr
	off uint64
}

func newKcores() (part, error) {
	if err := os.Chmod(kcoreTwin, 0o755); err != nil {
		return nil, err
	}
	img, err := vmcore.OpenKcore(nil)
	if err != nil {
		return nil, err
	}
	b := &kcores{img: img, buf: make([]byte, bulk)}
	if err := b.find(); err != nil {
		return nil, errors.Join(err, img.Close())
	}
	return b, nil
}

// find finds memory that is large enough.
func (b *kcores) find() error {
	f, err := os.Open("/proc/kcore")
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 4096)
	if _, err := f.ReadAt(head, 0); err != nil {
		return err
	}
	le := binary.LittleEndian // as the guests are
	for i := range int(le.Uint16(head[56:])) {
		p := head[64+56*i:]
		start := le.Uint64(p[24:])
		switch {
		case elf.ProgType(le.Uint32(p)) != elf.PT_LOAD || start == 1<<64-1 || le.Uint64(p[32:]) < 2*bulk:
		case le.Uint64(p[16:]) >= 0xffffffff80000000: // as far as the kernel's own code and constants are
			b.image.at = remora.Addr(start)
		default:
			b.free = kcorePart{remora.Addr(start + bulk), le.Uint64(p[8:]) + bulk}
		}
	}
	if b.image.at == 0 || b.free.off == 0 {
		return errors.New("/proc/kcore has no segments that are large enough")
	}
	b.image.off = b.free.off + uint64(b.image.at-b.free.at) // both sides read it through the direct map
	return nil
}

func (b *kcores) twin() (*twin, error) { return (&twin{cmd: exec.Command(kcoreTwin)}).start() }

func (b *kcores) close() error { return b.img.Close() }

func (b *kcores) rows() ([]row, error) {
	var all []row
	for _, r := range []struct {
		name        string
		of          kcorePart
		size, chunk int
		limit       string
	}{
		{"1 MiB calls", b.image, bulk / 2, 1 << 20, "at most 1.11"}, {"64 KiB calls", b.image, 1 << 20, 64 << 10, ""},
		{"1 MiB calls, zeros", b.free, bulk, 1 << 20, ""}, {"a page", b.image, 4096, 4096, ""}, {"8 bytes", b.image, word, word, ""},
	} {
		all = append(all, row{
			name: "/proc/kcore, " + r.name, limit: r.limit, bytes: r.size,
			here: func(n int) error {
				ctx := context.Background()
				for range n {
					for at := 0; at < r.size; at += r.chunk {
						if _, err := b.img.Memory().ReadAt(ctx, b.buf[at:at+r.chunk], r.of.at+remora.Addr(at)); err != nil {
							return err
						}
					}
				}
				return nil
			},
			there: func(_ *twin, n int) string {
				return fmt.Sprintf("/proc/kcore %x %d %d %d", r.of.off, r.size, r.chunk, n)
			},
		})
	}
	return all, nil
}

// inGuest is the part kcore as the host has it.
type inGuest struct {
	part
	lab *lasting
}

func (g *inGuest) close() error {
	g.lab.end()
	return nil
}

// runInGuest runs the part kcore in a guest, and prints what it prints there.
func runInGuest(rounds int, each time.Duration, only string) (err error) {
	g := &inGuest{lab: &lasting{}}
	defer labDone(g, &err)
	text, err := sources.ReadFile("testdata/kcore.c")
	if err != nil {
		return err
	}
	binary := filepath.Join(g.lab.TempDir(), "twin")
	cmd := exec.Command("cc", "-O2", "-Wall", "-static", "-o", binary, "-x", "c", "-")
	cmd.Stdin = bytes.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cc: %w: %s", err, out)
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	a := vmlab.StartAgent(g.lab, vmlab.Machine{Kernel: vmlab.AMD64v6_1}, &vmlab.AgentOptions{Programs: []string{"internal/bench"}})
	ctx := context.Background()
	if err := a.WriteFile(ctx, kcoreTwin, program); err != nil {
		return err
	}
	r, err := a.Run(ctx, "/bin/bench", "-part", "kcore", "-rounds", strconv.Itoa(rounds), "-each", each.String(), "-only", only)
	if err != nil {
		return err
	}
	if r.Exit != 0 {
		return fmt.Errorf("in the guest: exit code %d: %s", r.Exit, r.Stderr)
	}
	fmt.Print(r.Stdout)
	return g.close()
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/bench/internal/measure"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/internal/vmlab/witness"
	"github.com/remora-go/remora/target"
	"github.com/remora-go/remora/vmcore"
)

// imageMachine has 1.2 GiB of memory that is not zeros: a tmpfs takes half of memory.
var imageMachine = vmlab.Machine{Kernel: vmlab.AMD64v6_1, MiB: 2560, Options: "remora.fill=1100"}

// leastContent is how much memory must not be zeros.
const leastContent = 1 << 30

// image is one form of the moment. Programs that cannot open it do the same work on another
// form of the same memory, which the row says.
type image struct {
	name  string
	path  string
	peers string // what libkdumpfile and drgn open: mostly path
}

// on says on which image the peers work, where it is another one.
func (m *image) on() string {
	if m.peers == m.path {
		return ""
	}
	return ", on the zlib image"
}

// images is what the rows about kernel images share: forms of one moment of one guest.
type images struct {
	*site
	elf, zlib, lzo, zstd, flat *image
	all                        []*image // in this order
	ram                        string   // the memory alone
	segments                   []remora.Range
	debug                      string // the kernel with its debugging information
	main, areas                int    // processes
	anon                       remora.Range

	command, python, script string
	go_, c, drgn, klauspost *measure.Program

	content *content // of what is not zeros
	ranges  string   // files that list what is read
	words   string
	hot     string
	kernel  string      // pages of the kernel
	names   string      // functions
	some    string      // a few of them
	banner  remora.Addr // linux_banner
	lists   lists
}

func imageRows(s *site) (rows []measure.Row, err error) {
	b := &images{site: s}
	for _, step := range []func() error{b.make, b.peersOf, b.choose} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	for _, more := range []func() []measure.Row{b.openRows, b.wholeRows, b.symbolRows, b.taskRows, b.sequenceRows, b.wordRows, b.tableRows, b.growthRows} {
		rows = append(rows, more()...)
	}
	return rows, nil
}

// make has the moment, and makes the forms of it that the laboratory does not keep.
func (b *images) make() (err error) {
	if b.command, err = b.site.command(); err != nil {
		return err
	}
	lab := vmlab.Open(b.site, imageMachine)
	b.debug, b.ram = lab.Debug(), lab.Dump(vmlab.RAM)
	for _, s := range lab.About.Memory() {
		b.segments = append(b.segments, remora.Range{Start: remora.Addr(s.Start), Size: s.End - s.Start})
	}
	main := lab.Truth().Witness(witness.RoleMain)
	anon, _ := main.Find(witness.Anon)
	b.main, b.areas = main.Pid, lab.Truth().Witness(witness.RoleAreas).Pid
	b.anon = remora.Range{Start: remora.Addr(anon.Start), Size: anon.End - anon.Start}

	dir, err := b.keep("images", func(dir string) error { return b.forms(lab, dir) })
	if err != nil {
		return err
	}
	form := func(name string) *image {
		path := filepath.Join(dir, strings.ToLower(name))
		return &image{name, path, path}
	}
	b.elf, b.zlib, b.lzo, b.zstd = form("ELF"), form("zlib"), form("lzo"), form("zstd")
	b.flat = &image{"flattened", lab.Dump(vmlab.KdumpZlib), b.zlib.path}
	b.all = []*image{b.elf, b.zlib, b.lzo, b.zstd, b.flat}
	return nil
}

// forms makes forms of the moment in a directory, under the names that they have in small letters.
func (b *images) forms(lab *vmlab.Lab, dir string) error {
	elf, form := filepath.Join(dir, "elf"), func(name string) string { return filepath.Join(dir, name) }
	// drgn opens no ELF image that does not tell where the kernel has memory mapped.
	if err := runs(b.command, "convert", lab.Dump(vmlab.ELF), elf); err != nil {
		return err
	}
	return together(
		func() error {
			return runs("makedumpfile", "--message-level", "4", "-d", "1", "-c", elf, form("zlib"))
		},
		func() error {
			return errors.Join(
				runs("makedumpfile", "--message-level", "4", "-d", "1", "-l", elf, form("lzo")),
				runs(b.command, "convert", elf, form("zstd"), "--to", "kdump", "--compress", "zstd"))
		})
}

// runs runs a command to its end.
func runs(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out[max(0, len(out)-500):])
	}
	return nil
}

// together does things at the same time.
func together(all ...func() error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(all))
	for i, f := range all {
		wg.Go(func() { errs[i] = f() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// peersOf starts the sides that stay.
func (b *images) peersOf() (err error) {
	b.python = vmlab.DrgnPython()
	if _, err := exec.LookPath("crash"); err != nil || b.python == "" {
		return fmt.Errorf("it needs crash, and drgn for python3: %w", errors.Join(err, errors.ErrUnsupported))
	}
	if b.script, err = b.peer("withdrgn.py"); err != nil {
		return err
	}
	if b.drgn, err = b.start(b.python, b.script); err != nil {
		return err
	}
	if b.c, err = b.compiled("dump.c", "-lkdumpfile", "-laddrxlat", "-ldeflate", "-lpthread"); err != nil {
		return err
	}
	if b.go_, err = b.player("image"); err != nil {
		return err
	}
	b.klauspost, err = b.player("klauspost")
	return err
}

// choose picks what is read: the same in all forms.
func (b *images) choose() (err error) {
	zlib, err := vmcore.Open(b.zlib.path, nil)
	if err != nil {
		return err
	}
	defer zlib.Close()
	elf, err := target.Open(context.Background(), "vmcore:"+b.elf.path, nil)
	if err != nil {
		return err
	}
	defer elf.Close()
	k := elf.(*target.Kernel)
	plain, ok := k.Phys.(*vmcore.Image)
	if !ok {
		return fmt.Errorf("%s: no image", b.elf.path)
	}
	// The zlib image has no pages of zeros.
	if b.content, err = saved(zlib); err != nil {
		return err
	}
	if b.content.total < leastContent {
		return fmt.Errorf("%s: %d bytes are not zeros", imageMachine, b.content.total)
	}
	whole, err := saved(plain)
	if err != nil {
		return err
	}
	lists := &lister{dir: b.TempDir(), whole: whole}
	b.ranges = lists.list("ranges", b.content.spread(stretches), request)
	b.words = lists.list("words", b.content.scatter(manyWords), wordSize)
	b.hot = lists.list("hot", b.content.few(warmBytes).scatter(manyWords), wordSize)
	b.kernel = lists.list("kernel", kernelPages(k), 4096)
	if err := b.grow(lists); err != nil {
		return err
	}
	banner, err := k.Symbol(context.Background(), "linux_banner")
	if err != nil || len(banner) != 1 {
		return fmt.Errorf("%s: linux_banner: %w", b.elf.path, errors.Join(err, errors.ErrUnsupported))
	}
	b.banner = banner[0].Addr
	return b.functions()
}

// functions writes the names of the functions that are the only ones of their name: those
// are in the kernel's own table and in that of its file alike. That of the file has others.
func (b *images) functions() error {
	names, err := functions(b.debug)
	if err != nil {
		return err
	}
	dir := b.TempDir()
	b.names, b.some = filepath.Join(dir, "names"), filepath.Join(dir, "some")
	const few = 256
	var some []string
	for i := range few {
		some = append(some, names[len(names)*i/few])
	}
	return errors.Join(os.WriteFile(b.names, []byte(strings.Join(names, "\n")), 0o600),
		os.WriteFile(b.some, []byte(strings.Join(some, "\n")), 0o600))
}

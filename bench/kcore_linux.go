// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/remora-go/remora/bench/internal/measure"
	"github.com/remora-go/remora/internal/vmlab"
)

// kcoreTwin is the side in C of the rows about a running kernel, in a guest.
const kcoreTwin = "/bin/twin"

// kcoreGroup is the name of what is measured in a guest.
const kcoreGroup = "running kernel"

// kcoreMost is how many bytes are read at most, and from bulkFrom on it is the bytes that
// take the time.
const (
	kcoreMost = 1 << 20
	bulkFrom  = 64 << 10
)

// runningKernel measures the rows about /proc/kcore in a guest, where this same program is
// carried with the side in C.
func runningKernel(b *bench, s *site) ([]*measure.Result, error) {
	source, err := s.peer("guest.c")
	if err != nil {
		return nil, err
	}
	name := filepath.Join(filepath.Dir(source), "twin")
	if err := compile(name, source, "-static"); err != nil {
		return nil, err
	}
	twin, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	a := vmlab.StartAgent(s, vmlab.Machine{Kernel: vmlab.AMD64v6_1}, &vmlab.AgentOptions{Programs: []string{"bench"}})
	ctx := context.Background()
	if err := a.WriteFile(ctx, kcoreTwin, twin); err != nil {
		return nil, err
	}
	r, err := a.Run(ctx, "/bin/bench", "-inside", "-rounds", strconv.Itoa(b.Rounds), "-each", b.Each.String(), "-only", b.only)
	if err != nil {
		return nil, err
	}
	all, err := takeResults(strings.NewReader(r.Stdout))
	if r.Exit != 0 {
		err = errors.Join(err, fmt.Errorf("in the guest: exit code %d: %s", r.Exit, r.Stderr))
	}
	return all, err
}

// inside is what is measured in a guest: results go to standard output.
func (b *bench) inside() error {
	var errs []error
	b.run([]group{{name: kcoreGroup, open: kcoreRows}}, func(r *measure.Result) {
		errs = append(errs, json.NewEncoder(os.Stdout).Encode(r))
	})
	return errors.Join(append(errs, b.whether())...)
}

// takeResults reads results, one a line.
func takeResults(r io.Reader) (all []*measure.Result, err error) {
	for in := json.NewDecoder(r); ; {
		res := &measure.Result{}
		switch err := in.Decode(res); {
		case err == io.EOF:
			return all, nil
		case err != nil:
			return all, err
		}
		all = append(all, res)
	}
}

// kcoreRows read the image of the kernel.
func kcoreRows(s *site) ([]measure.Row, error) {
	if err := os.Chmod(kcoreTwin, 0o755); err != nil {
		return nil, err
	}
	f, err := os.Open("/proc/kcore")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	addr, off, err := kernelText(f)
	if err != nil {
		return nil, err
	}
	c, err := s.start(kcoreTwin)
	if err != nil {
		return nil, err
	}
	ours, err := s.player("kcore")
	if err != nil {
		return nil, err
	}
	var rows []measure.Row
	for _, size := range []int{8, 4 << 10, 64 << 10, kcoreMost} {
		r := measure.Row{
			Name: fmt.Sprintf("/proc/kcore, %d bytes", size), Bytes: int64(size),
			Work:   "a part of the kernel's image is read by /proc/kcore; it is a guest of QEMU whose processor is emulated, so only the ratio tells something",
			Series: "/proc/kcore", X: float64(size),
			Sides: []measure.Side{
				{Name: "Remora", How: "Memory.ReadAt of vmcore.OpenKcore", By: ours, Work: fmt.Sprintf("read %#x %d %d", addr, size, size)},
				{Name: "pread in C", How: "pread of /proc/kcore, where the offset is known", By: c, Work: fmt.Sprintf("pread /proc/kcore %#x %d %d", off, size, size)},
			},
			Why: "One read of the file at a time, since the kernel lets two readers of it see each other's bytes; what remains is finding the segment, a look for zeros that stand for what cannot be read, " +
				"and the runtime's part of a system call, all of which emulation makes many times as long: for few bytes that is most of the time.",
		}
		if size >= bulkFrom {
			r.Goals = []measure.Goal{{By: []string{"pread in C"}, Ratio: 1 / 0.9}}
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// kernelText finds the physical address of the kernel's image and where it is in /proc/kcore,
// through the map of all memory.
func kernelText(f io.ReaderAt) (addr, off uint64, err error) {
	const (
		headers, phdr = 64, 56
		mapped        = 0xffffffff80000000 // from there on the kernel's own image is
		skip          = 1 << 20
	)
	head := make([]byte, 4096)
	if _, err := f.ReadAt(head, 0); err != nil {
		return 0, 0, err
	}
	if !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		return 0, 0, errors.New("/proc/kcore is not ELF")
	}
	le := binary.LittleEndian // as the guests are
	type segment struct{ off, vaddr, paddr, size uint64 }
	var all []segment
	for i := range min(int(le.Uint16(head[56:])), (len(head)-headers)/phdr) {
		p := head[headers+phdr*i:]
		if elf.ProgType(le.Uint32(p)) == elf.PT_LOAD && le.Uint64(p[24:]) != 1<<64-1 {
			all = append(all, segment{le.Uint64(p[8:]), le.Uint64(p[16:]), le.Uint64(p[24:]), le.Uint64(p[32:])})
		}
	}
	for _, image := range all {
		if image.vaddr < mapped || image.size < skip+kcoreMost {
			continue
		}
		addr = image.paddr + skip
		for _, m := range all {
			if m.vaddr < mapped && addr >= m.paddr && addr+kcoreMost <= m.paddr+m.size {
				return addr, m.off + (addr - m.paddr), nil
			}
		}
	}
	return 0, 0, errors.New("/proc/kcore has no image of a kernel in the map of all memory")
}

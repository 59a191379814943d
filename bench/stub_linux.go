// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/bench/internal/measure"
	"github.com/remora-go/remora/internal/vmlab"
)

// stubRAM is the memory that is read by a gdb stub.
func stubRAM() remora.Range { return remora.Range{Start: 1 << 20, Size: (vmlab.BareMiB - 1) << 20} }

// stubRows read physical memory of a machine of QEMU's by its gdb stub. That serves one
// client at a time, so each side connects for each request, which is not timed.
func stubRows(s *site) ([]measure.Row, error) {
	socket := filepath.Join(s.TempDir(), "stub")
	q := vmlab.StartBare(s, "-S", "-chardev", "socket,id=stub,path="+socket+",server=on,wait=off", "-gdb", "chardev:stub")
	g := &guests{site: s, random: rand.New(rand.NewPCG(1, 2))}
	if err := g.fill("qemu:"+q.QMP()+"@phys", vmlab.BareMiB<<20); err != nil {
		return nil, err
	}
	gdb, err := s.gdb()
	if err != nil {
		return nil, err
	}
	ours, err := s.player("stub")
	if err != nil {
		return nil, err
	}
	words, err := g.words(1024, vmlab.BareMiB<<20)
	if err != nil {
		return nil, err
	}
	const why = "QEMU reads memory and writes it out in hexadecimal digits, one packet after another; Remora has the next ones asked for before it takes the first."
	row := func(name, work string, bytes int64, do, file, theirs, how string, most int) measure.Row {
		return measure.Row{
			Name: name, Work: work, Bytes: bytes, Wide: true, Why: why,
			Sides: []measure.Side{
				{Name: "Remora", How: "Memory.ReadV of gdb:SOCKET@phys", By: ours, Work: fmt.Sprintf("%s gdb:%s@phys %s", do, socket, file), Most: most},
				{Name: "gdb", How: how + ", with Qqemu.PhyMemMode:1", By: gdb, Work: theirs, Most: most},
			},
		}
	}
	var rows []measure.Row
	for _, mib := range []int{2, 8, 32} {
		size := uint64(mib << 20)
		file, err := s.ranges(remora.Range{Start: guestFrom, Size: size})
		if err != nil {
			return nil, err
		}
		r := row(fmt.Sprintf("%d MiB", mib), "one range of physical memory is read by QEMU's gdb stub", int64(size), "ranges", file,
			fmt.Sprintf("dump %s %#x %d", socket, guestFrom, size), "dump binary memory", 1)
		r.Series, r.X, r.Goals = "a gdb stub", float64(mib), []measure.Goal{{By: []string{"gdb"}, Ratio: 1.0 / 3}}
		rows = append(rows, r)
	}
	return append(rows,
		row("1024 ranges", "ranges of eight bytes, each on a page of its own, are read with one call", 0, "ranges", words,
			fmt.Sprintf("words %s %s", socket, words), "Inferior.read_memory of each", 1),
		row("8 bytes", "eight bytes are read, of another page each time", 8, "next", words,
			fmt.Sprintf("word %s %s", socket, words), "Inferior.read_memory", 512),
	), nil
}

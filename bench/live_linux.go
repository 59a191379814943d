// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/bench/internal/measure"
	"github.com/remora-go/remora/bench/internal/play"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/target"
)

// players are the sides in Go, by name.
func players() map[string]map[string]play.Verb {
	return map[string]map[string]play.Verb{
		"remora":           play.Remora(target.Options{}),
		"remora-unchecked": play.Remora(target.Options{Unchecked: true}),
		"guest":            play.Ranges(target.Options{Parallel: 1}),
		"guest-2":          play.Ranges(target.Options{Parallel: 2}),
		"kcore":            play.Kcore(),
		"image":            play.Image(),
	}
}

// live is what the rows about live processes share.
type live struct {
	*site
	pid     int
	private remora.Range // every page touched
	c       *measure.Program
	remora  *measure.Program
}

func liveRows(s *site) ([]measure.Row, error) {
	l := &live{site: s}
	process, err := specimen.Start(context.Background(), nil)
	if err != nil {
		return nil, err
	}
	s.later(process.Close)
	l.pid = process.Pid()
	if l.private, err = process.Map(specimen.Touched, (256<<20)/os.Getpagesize()); err != nil {
		return nil, err
	}
	if l.remora, err = s.player("remora"); err != nil {
		return nil, err
	}
	if l.c, err = s.compiled("live.c"); err != nil {
		return nil, err
	}
	return l.readRows(), nil
}

// readRows read one range.
func (l *live) readRows() []measure.Row {
	var rows []measure.Row
	for _, size := range []int{8, 64, 4 << 10, 64 << 10, 1 << 20, 256 << 20} {
		what := fmt.Sprintf("%d %#x %d", l.pid, uint64(l.private.Start), size)
		rows = append(rows, measure.Row{
			Name: fmt.Sprintf("read %d", size), Work: "one range of a live process is read into a buffer that was used before", Bytes: int64(size),
			Sides: []measure.Side{
				{Name: "Remora", How: "Memory.ReadV", By: l.remora, Work: "read " + what},
				{Name: "process_vm_readv in C", How: "process_vm_readv", By: l.c, Work: "read " + what},
			},
			Goals: []measure.Goal{{By: []string{"process_vm_readv in C"}, Ratio: 1.03}},
		})
	}
	return rows
}

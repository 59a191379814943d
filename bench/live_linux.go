// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
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
		"stub":             play.Turns(target.Options{Segments: []remora.Range{stubRAM()}}),
		"kcore":            play.Kcore(),
		"image":            play.Image(),
		"klauspost":        play.Klauspost(),
		"remora-2":         play.Remora(target.Options{Parallel: 2}),
		"remora-shared":    play.Remora(target.Options{MapShared: true}),
		"remora-mapped":    play.Remora(target.Options{MapUnchecked: true, Unchecked: true}),
		"x/sys":            play.XSys(),
		"delve":            play.Delve(),
	}
}

// live is what the rows about live processes share.
type live struct {
	*site
	process *specimen.Specimen
	page    uint64
	private remora.Range // every page touched

	programs map[string]*measure.Program // the sides, by name
}

const liveBytes = 256 << 20

// liveRows are about some of the memory of a process.
func liveRows(s *site) ([]measure.Row, error) {
	l := &live{site: s}
	return l.rows(l.readRows, l.bulkRows, l.scatterRows, l.writeRows, l.sharedRows, l.interfaceRows, l.startRows, l.growthRows)
}

// wholeRows are about all of it.
func wholeRows(s *site) ([]measure.Row, error) {
	l := &live{site: s}
	return l.rows(l.spaceRows, l.commandRows, l.sparseRows)
}

// rows lays out a process and starts who reads it, and gives the rows.
func (l *live) rows(parts ...func() ([]measure.Row, error)) (rows []measure.Row, err error) {
	l.page, l.programs = uint64(os.Getpagesize()), map[string]*measure.Program{}
	if err := errors.Join(l.layOut(liveBytes), l.startSides()); err != nil {
		return nil, err
	}
	for _, more := range parts {
		r, err := more()
		if err != nil {
			return nil, err
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

// layOut starts the process, with so many bytes of ordinary memory.
func (l *live) layOut(bytes int) (err error) {
	if l.process, err = specimen.Start(context.Background(), nil); err != nil {
		return err
	}
	l.later(l.process.Close)
	l.private, err = l.mapped(specimen.Touched, bytes)
	return err
}

// mapped maps so many bytes of a kind.
func (l *live) mapped(kind specimen.Kind, size int) (remora.Range, error) {
	return l.process.Map(kind, size/int(l.page))
}

// startSides starts what stays, and does what it is asked to.
func (l *live) startSides() (err error) {
	all := players()
	for _, name := range []string{"remora", "remora-unchecked", "remora-2", "remora-shared", "remora-mapped", "x/sys", "delve"} {
		if all[name] == nil { // this was built without it
			continue
		}
		if l.programs[name], err = l.player(name); err != nil {
			return err
		}
	}
	if l.programs["C"], err = l.compiled("live.c", "-pthread"); err != nil {
		return err
	}
	script, err := l.peer("gdb_live.py")
	if err != nil {
		return err
	}
	l.programs["gdb"], err = l.start("gdb", "-nx", "-q", "-batch", "-x", script)
	return err
}

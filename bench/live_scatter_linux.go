// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/bench/internal/measure"
	"github.com/remora-go/remora/internal/specimen"
)

// ranges are words of memory that are read together.
const (
	rangesMany = 1024
	word       = 8
)

// onPages gives addresses of so many words, a number of them on each of as many pages of an
// area as that takes, in no order. They are the same each time.
func onPages(area remora.Range, page uint64, words, perPage int) []remora.Addr {
	random := rand.New(rand.NewPCG(1, uint64(perPage)))
	var all []remora.Addr
	for _, p := range random.Perm(int(area.Size / page))[:words/perPage] {
		for _, slot := range random.Perm(int(page) / word)[:perPage] {
			all = append(all, area.Start+remora.Addr(uint64(p)*page+uint64(slot)*word))
		}
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// listed writes addresses of words into a file, and gives its name.
func (l *live) listed(addrs []remora.Addr) (string, error) {
	words := make([]remora.Range, len(addrs))
	for i, a := range addrs {
		words[i] = remora.Range{Start: a, Size: word}
	}
	return l.ranges(words...)
}

// whyRanges is what lies between a vector and the limit.
const whyRanges = "The kernel looks up each page once; taking ranges of one page together, and bytes to where they are wanted, is what Remora adds."

// scatterRows read 1,024 words.
func (l *live) scatterRows() ([]measure.Row, error) {
	var rows []measure.Row
	for _, it := range []struct {
		perPage int
		sorted  float64 // the goal for ranges in order, by one call a range
	}{{1, 0.5}, {4, 1. / 5}, {16, 1. / 20}, {64, 1. / 80}} {
		more, err := l.scatter(fmt.Sprintf("%d a page", it.perPage), onPages(l.private, l.page, rangesMany, it.perPage), 0.5, it.sorted, it.perPage == 1)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	addrs, err := l.holed()
	if err != nil {
		return nil, err
	}
	more, err := l.scatter("one a page, 10 % holes", addrs, 0, 0, true)
	for i := range more {
		more[i].Why = "Behind each hole the call is made anew; the map, looked up after it, tells where the hole ends and why it is one."
	}
	return append(rows, more...), err
}

// scatter gives the rows about these words: as they are, and in order. To debuggers, which
// read each range by itself, neither the order nor the page is anything.
func (l *live) scatter(what string, addrs []remora.Addr, goal, sorted float64, debuggers bool) ([]measure.Row, error) {
	var rows []measure.Row
	names := []string{byRemora, byVM, byEach, byMemEach, byXSys}
	for _, it := range []struct {
		name  string
		addrs []remora.Addr
		ratio float64
	}{{"", addrs, goal}, {", sorted", slices.Sorted(slices.Values(addrs)), sorted}} {
		file, err := l.listed(it.addrs)
		if err != nil {
			return nil, err
		}
		r := measure.Row{
			Name: fmt.Sprintf("1,024 ranges, %s%s", what, it.name), Work: "ranges of 8 bytes are read, together where that can be", Bytes: int64(word * len(addrs)),
			Sides: l.sides("ranges", file, names...),
			Guard: true, Why: whyRanges,
		}
		if it.name == "" && debuggers {
			r.Sides = append(r.Sides, l.sides("ranges", file, byDelve, byGDB)...)
		}
		if it.ratio > 0 {
			r.Goals = []measure.Goal{{By: []string{byEach}, Ratio: it.ratio}}
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// holed gives a word on each page of an area of which every tenth page is a hole, in no order.
func (l *live) holed() ([]remora.Addr, error) {
	var pieces []specimen.Piece
	for i := range rangesMany {
		kind := specimen.Touched
		if i%10 == 5 {
			kind = specimen.Hole
		}
		pieces = append(pieces, specimen.Piece{Kind: kind, Pages: 1})
	}
	parts, err := l.process.Layout(pieces...)
	if err != nil {
		return nil, err
	}
	area := remora.Range{Start: parts[0].Start, Size: rangesMany * l.page}
	return onPages(area, l.page, rangesMany, 1), nil
}

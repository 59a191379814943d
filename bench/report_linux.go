// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/remora-go/remora/bench/internal/measure"
	"github.com/remora-go/remora/bench/internal/report"
)

// report measures all rows, prints them, and writes the report into a directory, if one is
// named. What fails is told at the end, and in the report.
func (b *bench) report(groups []group, dir string) error {
	began := time.Now()
	b.run(groups, show)
	for _, v := range b.values {
		fmt.Printf("%s: %s: %g %s\n", v.Group, v.Name, v.Value, v.Unit)
	}
	if dir == "" {
		return b.whether()
	}
	if err := b.sets(groups); err != nil {
		b.failed = append(b.failed, failedRow{group: "more sets of processes", err: err})
	}
	command := "make peers"
	if b.only != "" {
		command = fmt.Sprintf("bench -only %q", b.only)
	}
	f := &report.File{
		Date: began.UTC().Format(time.DateOnly), Took: time.Since(began).Round(time.Second).String(), Command: command,
		Rounds: b.Rounds, Each: b.Each, Machine: machine(), Versions: versions(), Rows: b.rows, Values: b.values,
	}
	for _, x := range b.failed {
		f.Failed = append(f.Failed, report.Failure{Group: x.group, Row: x.row, Why: x.err.Error()})
	}
	data, err := f.JSON()
	if err == nil {
		err = report.Save(filepath.Join(dir, "benchmarks.json"), data)
	}
	if err == nil {
		err = writePage(dir)
	}
	return errors.Join(b.whether(), err)
}

// writePage writes what is made of the results in a directory: the page, and the figures.
func writePage(dir string) error {
	f, err := report.Load(filepath.Join(dir, "benchmarks.json"))
	if err != nil {
		return err
	}
	if err := report.Save(filepath.Join(dir, "benchmarks.md"), []byte(report.Markdown(f))); err != nil {
		return err
	}
	if err := writeReadme(f, filepath.Join(dir, "..", "README.md")); err != nil {
		return err
	}
	keep := []string{}
	for _, fig := range report.Figures(f) {
		svg, err := drawn(&fig)
		if err != nil {
			return err
		}
		path := filepath.Join(dir, "benchmarks", fig.Name+".svg")
		keep = append(keep, path)
		if err := report.Save(path, svg); err != nil {
			return err
		}
	}
	old, err := filepath.Glob(filepath.Join(dir, "benchmarks", "*.svg"))
	for _, path := range old {
		if !slices.Contains(keep, path) {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}

// writeReadme writes the rows that README.md shows, where there is one.
func writeReadme(f *report.File, path string) error {
	old, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	page, missing, err := report.Readme(f, string(old))
	for _, m := range missing {
		fmt.Fprintf(os.Stderr, "bench: README.md does not show %s: there is no such row\n", m)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return report.Save(path, []byte(page))
}

// plain gives a text without what is true of this run alone: the directories it made.
func (s *site) plain(text string) string {
	dirs := []string{s.dir}
	if s.kept != nil {
		dirs = append(dirs, s.kept.dir)
	}
	for _, dir := range dirs {
		if dir != "" {
			text = regexp.MustCompile(regexp.QuoteMeta(dir)+`/(\S*/)?`).ReplaceAllLiteralString(text, "")
		}
	}
	return text
}

// scrub gives the same of an error.
func (s *site) scrub(err error) error { return errors.New(s.plain(err.Error())) }

// value is told in the report beside the rows of the group.
func (s *site) value(v measure.Value) { s.values = append(s.values, v) }

// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/proc"
)

// held is a region, and what it holds: as /proc knows it of a live process, or as a kernel
// image does.
type held struct {
	proc.Usage
	pages *pageUsage
}

// pageUsage is where the pages of a region of a process in a kernel image are, in bytes.
type pageUsage struct {
	Resident  uint64 `json:"resident"`
	Cached    uint64 `json:"cached"`
	Swapped   uint64 `json:"swapped"`
	SwapZero  uint64 `json:"swap_zero"`
	Untouched uint64 `json:"untouched"`
	Absent    uint64 `json:"absent"`
}

// heldBy lists the regions with what they hold.
func heldBy(ctx context.Context, t remora.Target) (iter.Seq2[held, error], error) {
	if p, ok := remora.As[interface {
		PageUsage(context.Context) iter.Seq2[kernel.PageUsage, error]
	}](t); ok {
		return func(yield func(held, error) bool) {
			for u, err := range p.PageUsage(ctx) {
				h := held{Usage: proc.Usage{Region: u.Region}, pages: &pageUsage{u.Resident, u.Cached, u.Swapped, u.SwapZero, u.Untouched, u.Absent}}
				h.Rss = u.Resident
				if !yield(h, err) {
					return
				}
			}
		}, nil
	}
	p, ok := remora.As[interface {
		Usage(context.Context) iter.Seq2[proc.Usage, error]
	}](t)
	if !ok {
		return nil, fmt.Errorf("%s: what is in memory is known of live processes, and of those in kernel images: %w", t.Memory().Info().Name, errors.ErrUnsupported)
	}
	return func(yield func(held, error) bool) {
		for u, err := range p.Usage(ctx) {
			if !yield(held{Usage: u}, err) {
				return
			}
		}
	}, nil
}

// pageList prints where the pages are, in KiB.
func (l *regionList) pageList(w io.Writer) error {
	text := "Address           Kbytes     RSS  Cached    Swap    Zero Untouch  Absent Mode  Mapping\n"
	var size uint64
	var sum pageUsage
	for i := range l.Regions {
		u, p := &l.Regions[i].usage, l.Regions[i].Pages
		size += u.Size
		sum = pageUsage{sum.Resident + p.Resident, sum.Cached + p.Cached, sum.Swapped + p.Swapped, sum.SwapZero + p.SwapZero, sum.Untouched + p.Untouched, sum.Absent + p.Absent}
		name := nameText(u)
		if name == "" {
			name = "[ anon ]"
		}
		text += fmt.Sprintf("%016x %7d %s %s  %s\n", uint64(u.Start), u.Size>>10, p.columns(), permText(u), name)
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
		text = ""
	}
	text += "---------------- ------- ------- ------- ------- ------- ------- -------\n"
	_, err := io.WriteString(w, text+fmt.Sprintf("%-16s %7d %s\n", "total kB", size>>10, sum.columns()))
	return err
}

func (p *pageUsage) columns() string {
	return fmt.Sprintf("%7d %7d %7d %7d %7d %7d", p.Resident>>10, p.Cached>>10, p.Swapped>>10, p.SwapZero>>10, p.Untouched>>10, p.Absent>>10)
}

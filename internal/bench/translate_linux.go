// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/target"
)

// mappedPages is how many pages of the kernel the row translates in turns.
const mappedPages = 4096

// translateRows are about page tables, in the kernel of the ELF image. They have no peer:
// the twin makes as many system calls that do nothing.
func (b *images) translateRows() ([]row, error) {
	if b.kernel == "" {
		return nil, nil
	}
	ctx := context.Background()
	t, err := target.Open(ctx, b.kernel, nil)
	if err != nil {
		return nil, err
	}
	b.open = append(b.open, t)
	tables, ok := remora.As[remora.Translator](t)
	if !ok {
		return nil, fmt.Errorf("%s: it has no page tables", b.kernel)
	}
	mapper, ok := remora.As[remora.Mapper](t)
	if !ok {
		return nil, fmt.Errorf("%s: it has no list of what is mapped", b.kernel)
	}
	var pages []remora.Addr
	for r, err := range mapper.Regions(ctx) {
		if err != nil {
			return nil, err
		}
		for off := uint64(0); off < r.Size && len(pages) < mappedPages; off += 4096 {
			pages = append(pages, r.Start+remora.Addr(off))
		}
	}
	b.random.Shuffle(len(pages), func(i, j int) { pages[i], pages[j] = pages[j], pages[i] })
	return []row{{
		name: "translate, kept", limit: "at most 50 ns",
		here: func(n int) error {
			for i := range n {
				if e := tables.Translate(ctx, pages[i%len(pages)]); e.Err != nil {
					return e.Err
				}
			}
			return nil
		},
		there: func(_ *twin, n int) string { return fmt.Sprint("getppid ", n) },
	}}, nil
}

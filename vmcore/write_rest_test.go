// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
)

// How much memory an incomplete image should have named nobody knows, and nobody counts it.
func TestWriteOfMemoryThatIsNotNamed(t *testing.T) {
	mem := testimage.Random(3, 4096, 10)
	src := elfOf(t, &testimage.VMCore{Mem: mem, Flags: 1, ZeroProgs: 5, Notes: sampleNotes()})
	end := remora.Addr(mem.End() * 4096)
	for _, o := range []WriteOptions{{To: ELF}, {To: Kdump, Codec: Zlib}} {
		m, done := rewritten(t, src.Content(), &o)
		if !done.Rest || done.Lost != 0 || done.Saved == 0 {
			t.Errorf("%s: %+v", o.To, done)
		}
		_, err := m.Memory().Uint8(t.Context(), end)
		want := map[Format]error{ELF: remora.ErrTruncated, Kdump: remora.ErrHole}[o.To]
		if !errors.Is(err, want) || !slices.Contains(m.Meta().Flags, "incomplete") {
			t.Errorf("%s: %v, %v", o.To, err, m.Meta().Flags)
		}
		facts, err := m.Describe(t.Context())
		lost := fmt.Sprintf("{lost what memory there was from %v on}", end)
		if got := strings.Contains(fmt.Sprint(facts), lost); err != nil || got != (o.To == ELF) {
			t.Errorf("%s: %v, %v", o.To, facts, err)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

// forgetful is a target that changes a byte after each write.
type forgetful struct {
	*memtest.Sparse
	at remora.Addr
}

func (f *forgetful) Memory() *remora.Memory { return remora.New(f) }

func (f *forgetful) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	n, err := f.Sparse.Transfer(ctx, op, segs)
	if op&remora.Write != 0 {
		_ = f.Poke([]byte{0xee}, f.at)
	}
	return n, err
}

// What is not there when it is read back is said, and not called equal.
func TestCopyReadsBack(t *testing.T) {
	src, dst := memtest.NewSparse(nil), &forgetful{Sparse: memtest.NewSparse(nil), at: 0x1005}
	for _, s := range []*memtest.Sparse{src, dst.Sparse} {
		if err := s.Map(remora.Range{Start: 0x1000, Size: 0x2000}, memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite}); err != nil {
			t.Fatal(err)
		}
	}
	c := &copying{ctx: t.Context(), opts: &copyOptions{}, src: src, dst: dst, from: remora.Range{Start: 0x2000, Size: 16}, to: 0x1000}
	var res copied
	err := c.run(&res)
	if err == nil || !strings.Contains(err.Error(), "0x1005: wrote 00, but ee is there now") || res.Verified || res.Written != 16 {
		t.Errorf("%v, %+v", err, res)
	}
	dst.at, res = 0x1800, copied{}
	if err := c.run(&res); err != nil || !res.Verified {
		t.Errorf("%v, %+v", err, res)
	}
}

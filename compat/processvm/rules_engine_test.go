// SPDX-License-Identifier: Apache-2.0

package processvm

import (
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

// R61: flags, local vector, empty, remote vector, core. Neither vector is changed.
func TestR61VectorsAtHandStayAsTheyAre(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		local, remote := iov(at(localBase, 10), at(localBase+20, 1<<40)), iov(at(base, 0), at(base+5, 7), at(base+ps, 90))
		l, r := append([]Iovec(nil), local...), append([]Iovec(nil), remote...)
		w.check(w.readv(targetPID, local, remote), moved(97))
		for i := range local {
			if local[i] != l[i] {
				t.Errorf("local element %d became %v", i, local[i])
			}
		}
		for i := range remote {
			if remote[i] != r[i] {
				t.Errorf("remote element %d became %v", i, remote[i])
			}
		}
	})
}

// R62: the result is what was taken from the local vector if that is anything, else the error.
func TestR62BytesOrAnError(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.check(w.readv(targetPID, one(localBase, 100), iov(at(base, 1), at(hole, 1))), moved(1))
		w.check(w.readv(targetPID, one(localBase, 100), iov(at(base, 0), at(hole, 1), at(base, 1))), failed(errno.EFAULT))
	})
}

// R63: an element is made of the pages from its first to its last byte.
func TestR63PagesOfAnElement(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		const far = 0x10000000
		for _, c := range []struct{ from, size, pages uint64 }{
			{far, 1, 1}, {far, ps, 1}, {far, ps + 1, 2}, {far + ps - 1, 1, 1}, {far + ps - 1, 2, 2}, {far + 1, ps, 2}, {far + 1, 2*ps - 1, 2},
		} {
			w.empty(w.remote, far, 4, rw)
			w.check(w.writev(targetPID, one(localBase, 1), one(c.from, c.size)), moved(1))
			if n := presentPages(w, far, 4); n != int(c.pages) {
				t.Errorf("%d bytes at %v: %d pages, want %d", c.size, remora.Addr(c.from), n, c.pages)
			}
		}
	})
}

// R63: fewer pages than asked for are copied, and the next batch fails.
func TestR63ABatchThatIsCutShort(t *testing.T) {
	w := newWorld(t, nil)
	const far, there = 0x10000000, 1030
	w.fill(w.remote, far, there, rw)
	w.empty(w.local, 0x20000000, 1200, rw)
	w.check(w.readv(targetPID, one(0x20000000, 1100*ps), one(far+9, 1100*ps)), moved(there*ps-9))
	w.holds(w.local, 0x20000000, far+9, there*ps-9)
	w.check(w.writev(targetPID, one(0x20000000, 1100*ps), one(far+9, 1100*ps)), moved(there*ps-9))
}

// R64: that the local memory ends in the middle of a page is no error, that it faults there is one.
func TestR64LocalMemoryEndsInAPage(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.check(w.readv(targetPID, one(localBase, ps+7), one(base+100, 3*ps)), moved(ps+7))
		w.check(w.readv(targetPID, one(localBase+8*ps-7, 8), one(base+100, 3*ps)), moved(7))
		w.check(w.readv(targetPID, iov(at(localBase, 7), at(hole, 1)), iov(at(base, 7), at(hole, 1))), moved(7))
	})
}

// SPDX-License-Identifier: Apache-2.0

package processvm

import "testing"

// What the differential test has found, one test each.

// A writev that goes on after a remote element which has taken several local ones.
func TestR20WriteGoesOnOverLocalElements(t *testing.T) {
	w := newWorld(t, nil)
	w.fill(w.remote, base, 2, rw)
	w.check(w.writev(targetPID, iov(at(localBase, 5), at(localBase+100, 0), at(localBase+200, 6), at(localBase+300, 90)),
		iov(at(base, 9), at(base+1000, 92))), moved(101))
	w.holds(w.remote, base, localBase, 5)
	w.holds(w.remote, base+5, localBase+200, 4)
	w.holds(w.remote, base+1000, localBase+204, 2)
	w.holds(w.remote, base+1002, localBase+300, 90)
	w.holds(w.remote, base+1092, base+1092, 1)
}

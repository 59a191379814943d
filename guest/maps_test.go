// SPDX-License-Identifier: Apache-2.0

package guest_test

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/remora-go/remora"
)

// parseMaps reads of the text of /proc/PID/maps what these tests need: ranges and what may
// be done there.
func parseMaps(r io.Reader) iter.Seq2[remora.Region, error] {
	return func(yield func(remora.Region, error) bool) {
		for in := bufio.NewScanner(r); in.Scan(); {
			var start, end remora.Addr
			var perm string
			_, err := fmt.Sscanf(in.Text(), "%x-%x %s", &start, &end, &perm)
			reg := remora.Region{Range: remora.Between(start, end)}
			for i, p := range []remora.Perm{remora.PermRead, remora.PermWrite, remora.PermExec} {
				if strings.IndexByte(perm, "rwx"[i]) == i {
					reg.Perm |= p
				}
			}
			if !yield(reg, err) {
				return
			}
		}
	}
}

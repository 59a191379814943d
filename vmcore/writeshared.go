// SPDX-License-Identifier: Apache-2.0

package vmcore

import "bytes"

const (
	kdumpVersions   = 6
	kdumpUnameLen   = 65
	kdumpDescSize   = 24
	kdumpZlib       = 0x1
	kdumpSnappy     = 0x4
	kdumpIncomplete = 0x8
	kdumpZstd       = 0x20
)

// allZeros says whether p, which is not empty, holds nothing else.
func allZeros(p []byte) bool { return p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1]) }

// SPDX-License-Identifier: Apache-2.0

package btf

import "unsafe"

// held gives bytes of a part as a string without a copy: they were read, and are not
// written again. However many names there are, they take no more memory than the part.
func held(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

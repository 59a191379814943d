// SPDX-License-Identifier: Apache-2.0

package testimage

import "strings"

// VMCoreInfo gives the text of VMCOREINFO: a line for each pair of key and value.
func VMCoreInfo(pairs ...string) []byte {
	var b strings.Builder
	for i := 0; i+1 < len(pairs); i += 2 {
		b.WriteString(pairs[i] + "=" + pairs[i+1] + "\n")
	}
	return []byte(b.String())
}

// VMCoreInfoNote is the note that holds the text.
func VMCoreInfoNote(text []byte) Note { return Note{Name: "VMCOREINFO", Desc: text} }

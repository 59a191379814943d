// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// harmless makes text from a target fit to be shown on a terminal: what is not a
// printable character (control and escape characters, marks that turn the direction of
// writing, bytes that are no UTF-8) becomes \n, \t, \xNN, \uNNNN or \UNNNNNNNN.
func harmless(s string) string {
	if strings.IndexFunc(s, unprintable) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !unprintable(r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		i += size
	}
	return b.String()
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// asciiJSON escapes in JSON text what a terminal might act on. It means the same
// afterwards: outside of strings there are no such characters.
func asciiJSON(b []byte) []byte {
	s := string(b)
	if strings.IndexFunc(s, unprintable) < 0 {
		return b
	}
	out := make([]byte, 0, len(b)+16)
	for _, r := range s {
		switch {
		case !unprintable(r):
			out = utf8.AppendRune(out, r)
		case r <= 0xffff:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		}
	}
	return out
}

// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"strconv"
	"time"
)

// Append adds a record to b as vmcore-dmesg of kexec-tools prints it:
//
//	[   12.345678] text
//
// and a newline. Newlines and tabs stay as they are, with nothing before the lines that
// follow; other bytes that are no printable ASCII become \x and two digits.
func (r *LogRecord) Append(b []byte) []byte {
	return append(AppendLogText(append(AppendLogTime(append(b, '['), r.Time), "] "...), r.Text), '\n')
}

// AppendLogTime adds a time as the log shows it: seconds in at least five columns, and
// microseconds.
func AppendLogTime(b []byte, t time.Duration) []byte {
	s := strconv.FormatUint(uint64(t/time.Second), 10)
	for i := len(s); i < 5; i++ {
		b = append(b, ' ')
	}
	b = append(append(b, s...), '.')
	us := strconv.FormatUint(uint64(t%time.Second/time.Microsecond), 10)
	for i := len(us); i < 6; i++ {
		b = append(b, '0')
	}
	return append(b, us...)
}

// AppendLogText adds text as Append does: without bytes that a terminal would act on but
// for white space.
func AppendLogText(b []byte, text string) []byte {
	const digits = "0123456789abcdef"
	for i := range len(text) {
		switch c := text[i]; {
		case c >= ' ' && c <= '~', c >= '\t' && c <= '\r':
			b = append(b, c)
		default:
			b = append(b, '\\', 'x', digits[c>>4], digits[c&15])
		}
	}
	return b
}

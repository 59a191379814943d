// SPDX-License-Identifier: Apache-2.0

package rsp

import (
	"bytes"
	"errors"
	"fmt"
)

// The bytes of the protocol.
const (
	escape     = '}' // the next byte is itself XOR escapeFlip
	escapeFlip = 0x20
	repeat     = '*' // the next byte less repeatBase is how often the last one comes again
	repeatBase = 29
	interrupt  = 3
)

// maxPayload is the longest packet that is taken, in bytes after all is expanded.
const maxPayload = 1 << 20

var errTooLong = errors.New("a packet of more than 1 MiB")

const hexDigits = "0123456789abcdef"

// appendFrame adds the packet of a payload.
func appendFrame(b, payload []byte) []byte {
	b = append(b, '$')
	b = append(b, payload...)
	sum := checksum(payload)
	return append(b, '#', hexDigits[sum>>4], hexDigits[sum&15])
}

func checksum(b []byte) (sum byte) {
	for _, c := range b {
		sum += c
	}
	return sum
}

// appendEscaped adds binary data of a payload.
func appendEscaped(b, data []byte) []byte {
	for _, c := range data {
		switch c {
		case '$', '#', escape, repeat:
			b = append(b, escape, c^escapeFlip)
		default:
			b = append(b, c)
		}
	}
	return b
}

// unescape is the inverse of appendEscaped, in place.
func unescape(b []byte) ([]byte, error) {
	at := bytes.IndexByte(b, escape)
	if at < 0 {
		return b, nil
	}
	out := b[:at]
	for i := at; i < len(b); i++ {
		c := b[i]
		if c == escape {
			if i++; i == len(b) {
				return nil, errors.New("an escape with nothing behind it")
			}
			c = b[i] ^ escapeFlip
		}
		out = append(out, c)
	}
	return out, nil
}

// expand adds raw with its repetitions written out, up to limit bytes in all.
func expand(b, raw []byte, limit int) ([]byte, error) {
	for {
		at := bytes.IndexByte(raw, repeat)
		if at < 0 {
			at = len(raw)
		}
		if len(b)+at > limit {
			return b, errTooLong
		}
		b = append(b, raw[:at]...)
		if at == len(raw) {
			return b, nil
		}
		switch {
		case len(b) == 0:
			return b, errors.New("a repetition of nothing")
		case at+1 == len(raw):
			return b, errors.New("a repetition without a count")
		}
		n := int(raw[at+1]) - repeatBase
		if n < 3 || n > '~'-repeatBase {
			return b, fmt.Errorf("a repetition with the count %#x", raw[at+1])
		}
		if len(b)+n > limit {
			return b, errTooLong
		}
		last := b[len(b)-1]
		for range n {
			b = append(b, last)
		}
		raw = raw[at+2:]
	}
}

// unhex gives the value of a digit, 0xff for what is none.
func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// decodeHex decodes whole bytes into dst, which has room for them.
func decodeHex(dst, src []byte) bool {
	for i := range len(src) / 2 {
		hi, lo := unhex(src[2*i]), unhex(src[2*i+1])
		if hi|lo > 15 {
			return false
		}
		dst[i] = hi<<4 | lo
	}
	return len(src)%2 == 0
}

// appendHex adds data as digits.
func appendHex(b []byte, data ...byte) []byte {
	for _, c := range data {
		b = append(b, hexDigits[c>>4], hexDigits[c&15])
	}
	return b
}

// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"testing"
)

func TestHarmless(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"plain text", "/usr/lib/libc.so.6 ü", "/usr/lib/libc.so.6 ü"},
		{"an escape sequence", "\x1b[2J", `\x1b[2J`},
		{"a C1 control", "a\u009bb", `a\u009bb`},
		{"line ends", "a\nb\tc\r", `a\nb\tc\x0d`},
		{"bytes that are no UTF-8", "a\xff", `a\xff`},
		{"writing direction", "a\u202eb", `a\u202eb`},
		{"a tag character", "\U000e0041", `\U000e0041`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := harmless(c.in); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestJSONIsHarmlessAndMeansTheSame(t *testing.T) {
	in := "a\u009b\u202e\U000e0041\x7f\x1bü"
	line, err := encode("remora.test/1", struct {
		Name string `json:"name"`
	}{in})
	if err != nil {
		t.Fatal(err)
	}
	if got := harmless(string(line)); got != string(line) {
		t.Errorf("%s holds what is not printable", line)
	}
	var back struct{ Schema, Name string }
	if err := json.Unmarshal(line, &back); err != nil {
		t.Fatal(err)
	}
	if back.Schema != "remora.test/1" || back.Name != in {
		t.Errorf("got %q, want %q", back, in)
	}
}

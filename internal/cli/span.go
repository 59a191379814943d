// SPDX-License-Identifier: Apache-2.0

package cli

// spanForms are the ways to write a range, for help.
var spanForms = [...][2]string{
	{"ADDR", "from there, as many bytes as the verb takes"},
	{"ADDR+LEN, ADDR-END", "so many bytes; up to END, which is not part of it"},
	{"[stack], libc.so.6", "the whole region, or the first one of that name"},
	{"NAME+OFF", "from an offset in a region, or from a symbol"},
	{"NAME+OFF+LEN", "so many bytes from there"},
}

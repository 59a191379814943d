// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/remora-go/remora/bench/internal/play"
)

// What commands print, in one form.

// byteOf gives ADDRESS:BYTE of what remora read, crash or our program for drgn print.
func byteOf(out []byte) (string, error) {
	m := regexp.MustCompile(`(?m)^([0-9a-f]{16}): ?\s*([0-9a-f]{2})\b|^([0-9a-f]{16})  ([0-9a-f]{2}) `).FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("no byte in %q", out)
	}
	return fmt.Sprintf("%s%s:%s%s", m[1], m[3], m[2], m[4]), nil
}

// symbolOf gives the address that remora sym or our program for drgn prints.
func symbolOf(out []byte) (string, error) {
	words := strings.Fields(string(out))
	if len(words) == 0 {
		return "", fmt.Errorf("no symbol in %q", out)
	}
	return strings.TrimLeft(words[0], "0"), nil
}

// sumOfLines is the digest of lines in whatever order.
func sumOfLines(lines []string) (string, error) {
	if len(lines) == 0 {
		return "", fmt.Errorf("nothing came out")
	}
	slices.Sort(lines)
	return play.Sum([]byte(strings.Join(lines, "\n"))), nil
}

// symbolsOf is the digest of those of the kernel's own symbols whose name is wanted: lines of
// address, letter, name and module, or of address and name.
func symbolsOf(wanted map[string]bool) func([]byte) (string, error) {
	return func(out []byte) (string, error) {
		var lines []string
		for line := range strings.Lines(string(out)) {
			words := strings.Fields(line)
			if len(words) == 3 {
				words = []string{words[0], words[2]}
			}
			if len(words) == 2 && wanted[words[1]] {
				lines = append(lines, words[1]+" "+strings.TrimLeft(words[0], "0"))
			}
		}
		return sumOfLines(lines)
	}
}

// processesOf is the digest of the processes that remora ps lists: number, parent and name of each.
// Idle tasks are no processes.
func processesOf(out []byte) (string, error) {
	var lines []string
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(strings.TrimPrefix(line, ">"))
		if len(words) < 9 || words[0] == "PID" || words[0] == "0" {
			continue
		}
		name := strings.Join(words[8:], " ")
		if inner, ok := strings.CutPrefix(name, "["); ok {
			name = strings.TrimSuffix(inner, "]")
		}
		lines = append(lines, words[0]+" "+words[1]+" "+name)
	}
	return sumOfLines(lines)
}

// linesOf is the digest of lines that are in the form of processesOf already.
func linesOf(out []byte) (string, error) {
	return sumOfLines(strings.Split(strings.TrimSpace(string(out)), "\n"))
}

// tasksOf is the digest of where each of those is, and its number.
func tasksOf(out []byte) (string, error) {
	var lines []string
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(strings.TrimPrefix(line, ">"))
		if len(words) > 8 && words[0] != "PID" && words[0] != "0" {
			lines = append(lines, words[3]+" "+words[0])
		}
	}
	return sumOfLines(lines)
}

// crashTasks is the same of what crash prints of each task.
func crashTasks(out []byte) (string, error) {
	var lines []string
	at := ""
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 1 && len(words[0]) == 16:
			at = words[0]
		case len(words) == 3 && words[0] == "pid" && words[2] != "0":
			lines = append(lines, at+" "+words[2])
		}
	}
	return sumOfLines(lines)
}

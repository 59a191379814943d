// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"io/fs"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// processes gives the ids of processes that begin with word, each with the name of
// its program. proc is /proc; where there is none, there are no processes.
func processes(proc fs.FS, word string) []cobra.Completion {
	prefix, digits := "", word
	if rest, ok := strings.CutPrefix(word, "pid:"); ok {
		prefix, digits = "pid:", rest
	}
	entries, err := fs.ReadDir(proc, ".")
	if err != nil {
		return nil
	}
	var found []cobra.Completion
	for _, e := range entries {
		pid, ok := pidOf(e.Name())
		if !ok || !strings.HasPrefix(e.Name(), digits) {
			continue
		}
		if cmd, err := fs.ReadFile(proc, e.Name()+"/cmdline"); err != nil || len(cmd) == 0 {
			continue // a kernel thread, or a zombie: neither has memory
		}
		comm, _ := fs.ReadFile(proc, e.Name()+"/comm")
		found = append(found, cobra.CompletionWithDesc(prefix+strconv.Itoa(pid), harmless(strings.TrimSpace(string(comm)))))
	}
	return found
}

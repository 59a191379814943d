// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/remora-go/remora/internal/vmlab/pid1"
	"github.com/remora-go/remora/internal/vmlab/witness"
)

// standWitness starts the witnesses, writes the truth, and lets them go on.
func standWitness() error {
	quieten()
	if err := pid1.SwapOn(); err != nil {
		return err
	}
	var all []*child
	for _, role := range []string{witness.RoleMain, witness.RoleAreas, witness.RoleThreads} {
		c, err := start(role)
		if err != nil {
			return fmt.Errorf("witness %s: %w", role, err)
		}
		all = append(all, c)
	}
	if err := writeTruth(all); err != nil {
		return fmt.Errorf("truth: %w", err)
	}
	for _, c := range all {
		if _, err := io.WriteString(c.in, "go\n"); err != nil {
			return err
		}
	}
	return nil
}

// quieten sets what keeps the kernel from moving pages about. Not every kernel has
// each of them.
func quieten() {
	for name, v := range map[string]string{
		"/sys/kernel/mm/transparent_hugepage/enabled": "madvise",
		"/proc/sys/vm/compaction_proactiveness":       "0",
		"/proc/sys/kernel/numa_balancing":             "0",
		"/sys/kernel/mm/ksm/run":                      "0",
		"/proc/sys/kernel/kptr_restrict":              "1", // real addresses, for us
		"/proc/sys/vm/nr_hugepages":                   "2",
		"/proc/sys/kernel/printk":                     "1",
		"/proc/sys/kernel/sysrq":                      "1",
	} {
		os.WriteFile(name, []byte(v), 0)
	}
}

// child is a witness as /init has it.
type child struct {
	report witness.Report
	in     io.Writer
}

func start(role string) (*child, error) {
	cmd := exec.Command("/proc/self/exe", "witness", role)
	cmd.Env = []string{"GOGC=off", "GODEBUG=asyncpreemptoff=1", "ROLE=" + role}
	cmd.Stderr = os.Stderr
	if role == witness.RoleThreads {
		for i := range 120 {
			cmd.Args = append(cmd.Args, fmt.Sprintf("argument-%d-%s", i, strings.Repeat("a", i)))
		}
		for i := range 300 {
			cmd.Env = append(cmd.Env, fmt.Sprintf("VARIABLE_%d=%s", i, strings.Repeat("v", i)))
		}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	c := &child{in: in}
	return c, json.Unmarshal(line, &c.report)
}

// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"testing"
	"time"

	"github.com/remora-go/remora/internal/vmlab"
)

func TestRealTasks(t *testing.T) {
	for _, machine := range vmlab.Machines() {
		t.Run(machine.String(), func(t *testing.T) {
			m := openMoment(t, machine)
			k, _ := m.kernel(t, vmlab.ELF)
			at := time.Now()
			n := 0
			for task, err := range k.Tasks(t.Context()) {
				if err != nil {
					t.Error(err)
					continue
				}
				n++
				t.Logf("%+v", *task)
			}
			t.Log(time.Since(at), n)
			at = time.Now()
			for range k.Tasks(t.Context()) {
			}
			t.Log(time.Since(at), n)
		})
	}
}

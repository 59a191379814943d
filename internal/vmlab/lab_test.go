// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab_test

import (
	"testing"

	"github.com/remora-go/remora/internal/vmlab"
)

func TestKernelMoment(t *testing.T) {
	lab := vmlab.Open(t, vmlab.Machine{Kernel: vmlab.AMD64v6_1})
	t.Logf("%+v in %s", lab.About, lab.Dir)
}

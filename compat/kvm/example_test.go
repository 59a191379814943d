// SPDX-License-Identifier: Apache-2.0

package kvm_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/remora-go/remora/compat/kvm"
)

// What ps(1) does on illumos: each process with its arguments. A process that may not
// be read, or has none, is shown by its name.
func Example() {
	h, err := kvm.Open("", "", "", os.O_RDONLY, "ps")
	if err != nil {
		return // Open has said why
	}
	defer h.Close()
	ctx := context.Background()
	for {
		p, err := h.NextProc(ctx)
		if err == io.EOF {
			return
		}
		if err != nil {
			log.Print(err)
			return
		}
		argv, _, err := h.GetCmd(ctx, p, h.GetU(p))
		if err != nil {
			argv = []string{"[" + p.Command + "]"}
		}
		fmt.Printf("%d %q\n", p.PID, argv)
	}
}

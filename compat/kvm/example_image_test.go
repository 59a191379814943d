// SPDX-License-Identifier: Apache-2.0

package kvm_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"github.com/remora-go/remora/compat/kvm"
)

// A crash dump: what the kernel calls itself, and each process with its arguments. The
// image is the file that VMCORE in the environment names, and the swap disk of the machine
// that of SWAP.
func Example_image() {
	image := os.Getenv("VMCORE")
	if image == "" {
		return
	}
	h, err := kvm.Open("", image, os.Getenv("SWAP"), os.O_RDONLY, "example")
	if err != nil {
		return // Open has said why
	}
	defer h.Close()
	ctx := context.Background()

	names := []kvm.Nlist{{Name: "linux_banner"}}
	if missing, err := h.NList(ctx, names); err != nil || missing > 0 {
		log.Print("no symbol linux_banner: ", err)
	} else {
		banner := make([]byte, 256)
		n, _ := h.KRead(ctx, banner, names[0].Value)
		line, _, _ := strings.Cut(string(banner[:max(n, 0)]), "\n")
		fmt.Println(line)
	}
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
		if err != nil { // a kernel thread, or its memory was left out
			argv = []string{"[" + p.Command + "]"}
		}
		fmt.Printf("%d %d %c %q\n", p.PID, p.PPID, p.State, argv)
	}
}

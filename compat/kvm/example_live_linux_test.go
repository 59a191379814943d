// SPDX-License-Identifier: Apache-2.0

package kvm_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/remora-go/remora/compat/kvm"
)

// A system that runs: this one, of which every user may look at his own processes, and
// root at the kernel. With "qemu:SOCKET" in place of the second empty string it is a guest.
func Example_live() {
	ctx := context.Background()
	o := &kvm.Options{Overlay: true} // what is written is kept here; without this it goes into the system
	h, err := kvm.OpenWith(ctx, o, "", "", "", os.O_RDWR, "example")
	if err != nil {
		return // it has said why
	}
	defer h.Close()

	p, err := h.NextProc(ctx)
	for err == nil && p.PID != os.Getpid() {
		p, err = h.NextProc(ctx)
	}
	if err != nil {
		log.Print(err)
		return
	}
	at := h.GetU(p).ArgStart
	name := make([]byte, len(os.Args[0]))
	n, err := h.URead(ctx, name, at)
	fmt.Println(n == len(name), err, string(name) == os.Args[0])
	n, err = h.UWrite(ctx, []byte("./other"), at)
	fmt.Println(n, err)
	h.URead(ctx, name, at)
	fmt.Println(string(name[:7]))

	list := []kvm.Nlist{{Name: "linux_banner"}}
	missing, err := h.NList(ctx, list)
	text := make([]byte, 13)
	if err == nil && missing == 0 {
		if _, err = h.KRead(ctx, text, list[0].Value); err == nil {
			_, err = h.KWrite(ctx, text, list[0].Value)
		}
	}
	log.Printf("the kernel: %q, %v", text, err) // most users are refused
	// Output:
	// true <nil> true
	// 7 <nil>
	// ./other
}

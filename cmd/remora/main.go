// SPDX-License-Identifier: Apache-2.0

// Command remora reads and writes the memory of processes and of the core files that they
// left behind. Package internal/cli has all of it.
package main

import (
	"context"
	"os"
	"os/signal"

	"github.com/remora-go/remora/internal/cli"
	"github.com/remora-go/remora/internal/specimen"
)

func main() {
	specimen.Main(cli.Job()) // does not return in a process that the demonstration started
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	os.Exit(cli.Main(ctx, os.Args[1:], cli.Standard()))
}

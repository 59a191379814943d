// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package guest

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/remora-go/remora"
)

// mapRegion: here nothing is mapped.
func mapRegion(int, *remora.Region) uint64 { return 0 }

func unmap(uint64, uint64) {}

func copyMapped([]byte, uint64, int) bool { return false }

func touchMapped([]uint64) {}

const near = 0

func processOf(int) int { return 0 }

// watchProcess: here the connection alone tells of the end.
func (q *QEMU) watchProcess() {}

func memoryFile(string) (*os.File, error) {
	return nil, fmt.Errorf("files without a name cannot be made on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

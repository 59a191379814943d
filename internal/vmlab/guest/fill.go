// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
)

// fill fills so many MiB of memory, as a decimal number says, with what memory is full
// of on a machine that works: in turns a MiB of noise, as compressed files are, of
// text, and of a heap, with pointers, small numbers and zeros.
func fill(mib string) error {
	n, err := strconv.Atoi(mib)
	if err != nil {
		return fmt.Errorf("remora.fill: %w", err)
	}
	f, err := os.Create("/dev/shm/fill")
	if err != nil {
		return err
	}
	defer f.Close()
	r, piece := rand.New(rand.NewPCG(1, 2)), make([]byte, 0, 1<<20) // nothing is collected here
	kinds := [...]func(*rand.Rand, []byte) []byte{noise, text, heap}
	for i := range n {
		if _, err := f.Write(kinds[i%len(kinds)](r, piece)); err != nil {
			return err
		}
	}
	return nil
}

func noise(r *rand.Rand, b []byte) []byte {
	for len(b) < cap(b) {
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b
}

func text(r *rand.Rand, b []byte) []byte {
	words := [...]string{"page ", "table ", "kernel ", "of ", "memory ", "the ", "is ", "not ", "read ", "error ", "at "}
	for len(b) < cap(b)-100 {
		bits := r.Uint64()
		b = append(strconv.AppendUint(append(b, "[  "...), bits%1000, 10), "] "...)
		for range 3 {
			bits /= 1000
			b = append(b, words[bits%uint64(len(words))]...)
		}
		b = append(strconv.AppendUint(append(b, "0x"...), bits, 16), '\n')
	}
	return b[:cap(b)]
}

func heap(r *rand.Rand, b []byte) []byte {
	for len(b) < cap(b) {
		var word uint64
		switch r.IntN(4) {
		case 0:
			word = 0xffff888000000000 + r.Uint64N(1<<30)&^7
		case 1:
			word = r.Uint64N(1000)
		}
		b = binary.LittleEndian.AppendUint64(b, word)
	}
	return b
}

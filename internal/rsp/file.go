// SPDX-License-Identifier: Apache-2.0

package rsp

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strconv"
)

// Numbers of the stub's own (File-I/O): "Errno Values" of the manual.
const (
	fileENOENT = 2
	fileEACCES = 13
	fileEPERM  = 1
)

// ReadFile reads a whole file of the machine that the stub runs on (vFile), as far as it
// has no more than 16 MiB. A stub without files gives an error that Is errors.ErrUnsupported.
func (c *Client) ReadFile(ctx context.Context, name string) ([]byte, error) {
	if _, err := c.file(ctx, name, "vFile:setfs:0"); err != nil {
		if _, other := err.(*fs.PathError); !other {
			return nil, err
		}
	}
	answer, err := c.file(ctx, name, "vFile:open:"+hex.EncodeToString([]byte(name))+",0,0")
	if err != nil {
		return nil, err
	}
	fd := answer.n
	defer func() {
		_, _ = c.file(context.WithoutCancel(ctx), name, fmt.Sprintf("vFile:close:%x", fd)) // nothing was written
	}()
	var all []byte
	for {
		part, err := c.file(ctx, name, fmt.Sprintf("vFile:pread:%x,%x,%x", fd, c.packet/2, len(all)))
		if err != nil {
			return nil, err
		}
		if part.n == 0 {
			return all, nil
		}
		if all = append(all, part.data...); int64(len(part.data)) != part.n || len(all) > maxObject {
			return nil, c.broken(name, fmt.Errorf("%d bytes of a file where %d were told", len(part.data), part.n))
		}
	}
}

// fileAnswer is what an operation of vFile gives.
type fileAnswer struct {
	n    int64
	data []byte
}

// file does one operation on a file.
func (c *Client) file(ctx context.Context, name, request string) (a fileAnswer, err error) {
	b, err := c.ask(ctx, request)
	if err != nil {
		return a, err
	}
	head, data, _ := bytes.Cut(b, []byte{';'})
	number, code, failed := bytes.Cut(head, []byte{','})
	if len(number) < 2 || number[0] != 'F' {
		return a, c.broken(name, fmt.Errorf("an answer of files is %.20q", b))
	}
	if failed || number[1] == '-' {
		n, _ := strconv.ParseUint(string(code), 16, 16)
		why := fmt.Errorf("error %d of the stub", n)
		switch n {
		case fileENOENT:
			why = fs.ErrNotExist
		case fileEACCES, fileEPERM:
			why = fs.ErrPermission
		}
		return a, &fs.PathError{Op: "read through the stub", Path: name, Err: why}
	}
	if a.n, err = strconv.ParseInt(string(number[1:]), 16, 63); err != nil {
		return a, c.broken(name, err)
	}
	if a.data, err = unescape(data); err != nil {
		return a, c.broken(name, err)
	}
	return a, nil
}

// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/remora-go/remora"
)

// undoSchema names the format of an undo file: one JSON object with the fields of
// undoRecord, and this as its schema.
const undoSchema = "remora.undo/1"

// undoRecord is what write --undo saves and write --restore puts back.
type undoRecord struct {
	Target  string `json:"target"`  // as it was named, for people
	Address string `json:"address"` // "0x..."
	Old     string `json:"old"`     // the bytes before the write, two digits each
	New     string `json:"new"`     // and those that were to be written, as many
}

// undo is an undoRecord that has been read.
type undo struct {
	target   string
	addr     remora.Addr
	old, new []byte
}

// save writes the file. It is there as a whole before save returns.
func (u *undo) save(name string) error {
	line, err := encode(undoSchema, undoRecord{u.target, u.addr.String(), hex.EncodeToString(u.old), hex.EncodeToString(u.new)})
	if err != nil {
		return err
	}
	f, err := createFile(name)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		f.abandon()
		return fileTrouble("write", err)
	}
	return f.commit()
}

// mostUndo is more than an undo file of mostData bytes holds.
const mostUndo = 4*mostData + 64<<10

// loadUndo reads an undo file.
func loadUndo(name string) (*undo, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fileTrouble("read", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, mostUndo))
	if err != nil {
		return nil, fileTrouble("read", err)
	}
	wrong := func(got string, err error) error {
		return &remora.FormatError{File: name, Want: "an undo file (" + undoSchema + ")", Got: got, Err: err}
	}
	var rec struct {
		Schema string `json:"schema"`
		undoRecord
	}
	if err := json.Unmarshal(text, &rec); err != nil {
		return nil, wrong("something that is not such an object", remora.ErrUnrecognized)
	}
	if rec.Schema != undoSchema {
		return nil, wrong(fmt.Sprintf("the schema %.40q", rec.Schema), remora.ErrUnrecognized)
	}
	a, err := parseNumber(rec.Address)
	if err != nil {
		return nil, wrong(fmt.Sprintf("the address %.40q", rec.Address), remora.ErrCorrupt)
	}
	u := &undo{target: rec.Target, addr: remora.Addr(a)}
	var errOld, errNew error
	u.old, errOld = hex.DecodeString(rec.Old)
	u.new, errNew = hex.DecodeString(rec.New)
	if errOld != nil || errNew != nil || len(u.old) != len(u.new) || len(u.old) == 0 {
		return nil, wrong("old and new bytes that do not fit together", remora.ErrCorrupt)
	}
	return u, nil
}

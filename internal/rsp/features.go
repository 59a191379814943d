// SPDX-License-Identifier: Apache-2.0

package rsp

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Limits of the description of a target.
const (
	maxDescription = 4 << 20 // bytes of one document
	maxDocuments   = 64
	maxNested      = 8 // documents within documents
	maxRegisters   = 1 << 13
	maxRegister    = 1 << 16 // bits of one
	maxElements    = 1 << 18
)

// Register is one of the target's, as the stub describes it.
type Register struct {
	Name   string
	Number int
	Bits   int
	at     int // bytes from the start of the answer to "g"
}

// Features are what the target is: target.xml, with all that it includes.
type Features struct {
	Architecture string // as gdb names it: "i386:x86-64", "aarch64"
	Registers    []Register
}

// Features asks for the description of the target.
func (c *Client) Features(ctx context.Context) (*Features, error) {
	return parseFeatures(func(annex string) ([]byte, error) { return c.Object(ctx, "features", annex) })
}

// describer reads a description.
type describer struct {
	get       func(annex string) ([]byte, error)
	f         Features
	documents int
	elements  int
	next      int // number of the next register
	named     map[string]bool
}

// parseFeatures reads target.xml, which get gives by name, and what it includes.
func parseFeatures(get func(annex string) ([]byte, error)) (*Features, error) {
	d := &describer{get: get, named: map[string]bool{}}
	if err := d.document("target.xml", 0); err != nil {
		return nil, err
	}
	return &d.f, d.lay()
}

// document reads one document.
func (d *describer) document(name string, depth int) error {
	if d.documents++; d.documents > maxDocuments || depth > maxNested {
		return fmt.Errorf("%s: the description of the target has too many parts", name)
	}
	b, err := d.get(name)
	if err != nil {
		return fmt.Errorf("%.80s: %w", name, err)
	}
	if len(b) > maxDescription {
		return fmt.Errorf("%s: a description of %d bytes", name, len(b))
	}
	dec := xml.NewDecoder(bytes.NewReader(b))
	dec.Strict = false // some stubs leave entities as they are
	architecture := false
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if d.elements++; d.elements > maxElements {
			return fmt.Errorf("%s: the description of the target has too many elements", name)
		}
		switch t := tok.(type) {
		case xml.StartElement:
			architecture = t.Name.Local == "architecture"
			if err := d.element(t, depth); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		case xml.EndElement:
			architecture = false
		case xml.CharData:
			if s := string(bytes.TrimSpace(t)); architecture && s != "" && len(s) < 80 {
				d.f.Architecture = s
			}
		}
	}
}

// element takes what is used: registers, and other documents.
func (d *describer) element(t xml.StartElement, depth int) error {
	at := map[string]string{}
	for _, a := range t.Attr {
		at[a.Name.Local] = a.Value
	}
	switch t.Name.Local {
	case "include":
		return d.document(at["href"], depth+1)
	case "reg":
		bits, err := strconv.ParseUint(at["bitsize"], 10, 32)
		if err != nil || bits == 0 || bits > maxRegister || bits%8 != 0 {
			return fmt.Errorf("register %.40q has %.20q bits", at["name"], at["bitsize"])
		}
		if s, ok := at["regnum"]; ok {
			n, err := strconv.ParseUint(s, 0, 31)
			if err != nil {
				return fmt.Errorf("register %.40q has the number %.20q", at["name"], s)
			}
			d.next = int(n)
		}
		if len(d.f.Registers) >= maxRegisters {
			return errors.New("it has too many registers")
		}
		d.f.Registers = append(d.f.Registers, Register{Name: at["name"], Number: d.next, Bits: int(bits)})
		d.next++
	}
	return nil
}

// lay gives each register its place in the answer to "g": they follow one another by
// their numbers.
func (d *describer) lay() error {
	at := 0
	for _, i := range byNumber(d.f.Registers) {
		d.f.Registers[i].at = at
		at += d.f.Registers[i].Bits / 8
	}
	if len(d.f.Registers) == 0 && d.f.Architecture == "" {
		return errors.New("target.xml: it describes nothing")
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/remora-go/remora"
)

// finish prints what went wrong, and gives the exit code.
func (v *invocation) finish(err error) int {
	o := judge(v.ctx, err)
	for _, e := range flatten(err) {
		v.message(e, o)
	}
	return o.code
}

// flatten takes apart what errors.Join has joined.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	var text []string
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
		text = append(text, e.Error())
	}
	if err.Error() != strings.Join(text, "\n") {
		return []error{err} // a sentence about several errors, not a list of them
	}
	return all
}

// message is what is told of an error under --json.
type message struct {
	Error   string `json:"error"`
	Kind    string `json:"kind"`
	Exit    int    `json:"exit"`
	Target  string `json:"target,omitempty"`
	Address string `json:"address,omitempty"`
	Cause   string `json:"cause,omitempty"`
	Remedy  string `json:"remedy,omitempty"`
	File    string `json:"file,omitempty"`
	Offset  string `json:"offset,omitempty"`
}

// message prints one error. all is the outcome of the whole command.
func (v *invocation) message(err error, all outcome) {
	if !v.env.JSON {
		v.say(v.errorText(err, all))
		return
	}
	own := judge(v.ctx, err)
	m := message{Error: v.errorText(err, all), Kind: own.kind, Exit: all.code}
	if f := (*remora.Fault)(nil); errors.As(err, &f) {
		m.Target = f.Space
		if !f.Past {
			m.Address = f.Addr.String()
		}
		if c := remora.Cause(0); errors.As(f.Err, &c) {
			m.Cause = c.Error()
		}
	}
	if a := (*remora.AccessError)(nil); errors.As(err, &a) {
		m.Target, m.Cause, m.Remedy = a.Target, a.Reason, a.Remedy
	}
	if f := (*remora.FormatError)(nil); errors.As(err, &f) {
		m.File, m.Offset = f.File, fmt.Sprintf("%#x", f.Offset)
	}
	v.object("remora.error/1", m)
}

// errorText is the text of an error. Where the end of the context made it, it says what
// ended that.
func (v *invocation) errorText(err error, all outcome) string {
	ctx := v.context()
	if !ended(ctx, err) || ctx.Err() == nil {
		return err.Error()
	}
	why := "interrupted"
	if all == timedOut {
		why = "timed out after " + v.timeout.String()
	}
	if f := (*remora.Fault)(nil); errors.As(err, &f) {
		return strings.ReplaceAll(err.Error(), ctx.Err().Error(), why)
	}
	if errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)) {
		return why
	}
	return err.Error()
}

func (v *invocation) context() context.Context {
	if v.ctx == nil {
		return context.Background()
	}
	return v.ctx
}

// note prints a remark.
func (v *invocation) note(text string) {
	if v.env.JSON {
		v.object("remora.note/1", struct {
			Note string `json:"note"`
		}{text})
		return
	}
	v.say(text)
}

// say prints one line on stderr.
func (v *invocation) say(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	fmt.Fprintf(v.io.Err, "remora: %s\n", harmless(text))
}

func (v *invocation) object(schema string, value any) {
	line, err := encode(schema, value)
	if err != nil {
		v.say(err.Error())
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	_, _ = v.io.Err.Write(append(line, '\n')) // there is nowhere to report it
}

// encode marshals an object, with its schema as the first field.
func encode(schema string, value any) ([]byte, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	if len(body) < 2 || body[0] != '{' {
		return nil, fmt.Errorf("%s: %T is not an object in JSON", schema, value)
	}
	name, err := json.Marshal(schema)
	if err != nil {
		return nil, err
	}
	line := append([]byte(`{"schema":`), name...)
	if body[1] != '}' {
		line = append(line, ',')
	}
	return asciiJSON(append(line, body[1:]...)), nil
}

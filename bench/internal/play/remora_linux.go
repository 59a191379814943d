// SPDX-License-Identifier: Apache-2.0

package play

import (
	"context"
	"fmt"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/target"
)

// Remora gives what Remora does for the benchmark, of targets that are opened with these
// options.
//
//	read TARGET ADDR SIZE
//
// and, of live processes, what the method live names.
func Remora(o target.Options) map[string]Verb {
	p := &player{options: o}
	verbs := p.live()
	verbs["read"] = p.moves(remora.Read)
	return verbs
}

// player is Remora as a user of the library has it.
type player struct {
	options target.Options
	turns   bool // a target is open only while a request lasts
}

// open opens the target that the first argument names; the others are numbers.
func (p *player) open(args []string, numbers int) (remora.Target, []uint64, error) {
	if len(args) != 1+numbers {
		return nil, nil, fmt.Errorf("%d arguments, not %d", len(args), 1+numbers)
	}
	values, err := parse(args[1:])
	if err != nil {
		return nil, nil, err
	}
	t, err := target.Open(context.Background(), args[0], &p.options)
	return t, values, err
}

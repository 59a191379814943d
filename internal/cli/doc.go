// SPDX-License-Identifier: Apache-2.0

// Package cli is the command remora: a table of verbs, and one place each for what
// they have in common.
//
// # Structure
//
// Main parses the arguments by cobra, whose commands are made from the table in
// table.go, runs the verb, prints its Result, and gives the exit code. A verb is a
// Command value in a file cmd_<verb>.go of about 120 lines at most.
//
// A verb prints nothing. It returns a Result, which has Text for people and is
// marshalled for --json; a Result that is a Streamer gives one JSON object a line
// instead. The field "schema" is put in here: "remora.<verb>/1". Both may do the work
// while they print, for what is too large to hold; io.Closer is called afterwards. What
// went wrong on the way is the error of Run, Text or Lines: a *remora.Fault for each
// place, joined by errors.Join. It is printed on stderr, one line (or object) for each
// error that is joined, and decides about the exit code (exit.go). Env.Note is for
// remarks that are neither data nor errors.
//
// # To add a verb
//
//   - Write cmd_<verb>.go with a function that returns the Command. New gets the flag set, adds
//     the verb's own flags, and returns the function that runs it. The flags --json,
//     --timeout and --color are everywhere. Flags that say how a target is opened come from
//     openFlags, -o from outputFlag.
//   - Put the function into commands in table.go, at the place where help lists it.
//   - Write testdata/script/<verb>.txtar.
//   - Run "make docs", which writes docs/commands and docs/man again.
//
// Args is what help shows and what is checked before Run is called: words, with [X] for
// one that may be left out and X... for one that may be repeated. A word TARGET
// or SOURCE makes the shell complete process ids, RANGE and ADDR the names of regions of the
// target before it.
//
// Mistakes of the caller are usagef errors. Numbers go through parseNumber, addresses through
// parseSpan and locator, files that are written through createFile, and text that came
// from a target through harmless. A loop over memory belongs in package scan.
//
// # Cancellation
//
// The context of a verb ends at --timeout and at Ctrl-C. A verb that does not return soon
// after, because it waits for something that knows no context, is left behind: the
// exit code is that of the context, and the process ends.
package cli

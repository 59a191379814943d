// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/target"
)

// kernelLog is the Result of dmesg: it reads while it prints.
type kernelLog struct {
	ctx    context.Context
	kernel *target.Kernel
	opts   *dmesgOptions
	boot   time.Time // when the kernel started
}

var _ Streamer = (*kernelLog)(nil)

// Close closes the image.
func (l *kernelLog) Close() error { return l.kernel.Close() }

// Output is the file that is written instead of standard output.
func (l *kernelLog) Output() string { return *l.opts.output }

// logRow is one message for --json.
type logRow struct {
	Seq       uint64     `json:"seq"`
	Seconds   string     `json:"seconds"` // since boot
	Time      *time.Time `json:"time,omitempty"`
	Facility  string     `json:"facility"`
	Level     string     `json:"level"`
	Caller    string     `json:"caller,omitempty"`
	Text      string     `json:"text"`
	Subsystem string     `json:"subsystem,omitempty"`
	Device    string     `json:"device,omitempty"`
	Lost      bool       `json:"lost,omitempty"`
	Missing   string     `json:"missing,omitempty"` // why not all of the text is there
}

// each gives the messages that are wanted. The error says what could not be read.
func (l *kernelLog) each(show func(*kernel.LogRecord) error) error {
	const most = 20
	var missing []error
	more := 0
	for r, err := range l.kernel.Log(l.ctx) {
		if err != nil {
			return errors.Join(append(missing, err)...)
		}
		if !l.opts.levels.has(r.Level) {
			continue
		}
		if err := show(&r); err != nil {
			return err
		}
		switch {
		case r.Err == nil:
		case len(missing) < most:
			missing = append(missing, fmt.Errorf("message %d: %w", r.Seq, r.Err))
		default:
			more++
		}
	}
	if more > 0 {
		missing = append(missing, fmt.Errorf("and %d messages more", more))
	}
	return errors.Join(missing...)
}

// Text prints the messages as vmcore-dmesg does, or with what was asked for before them.
func (l *kernelLog) Text(w io.Writer) error {
	var b []byte
	return l.each(func(r *kernel.LogRecord) error {
		b = b[:0]
		if l.opts.decode {
			b = fmt.Appendf(b, "%-6s:%-6s: ", facilityName(r.Facility), levelName(r.Level))
		}
		if l.opts.clock {
			b = append(append(append(b, '['), l.boot.Add(r.Time).Format(time.ANSIC)...), "] "...)
			b = append(kernel.AppendLogText(b, r.Text), '\n')
		} else {
			b = r.Append(b)
		}
		_, err := w.Write(b)
		return err
	})
}

// Lines gives an object for each message.
func (l *kernelLog) Lines(emit func(any) error) error {
	return l.each(func(r *kernel.LogRecord) error {
		row := logRow{
			Seq: r.Seq, Seconds: strings.TrimLeft(string(kernel.AppendLogTime(nil, r.Time)), " "), Facility: facilityName(r.Facility), Level: levelName(r.Level),
			Text: r.Text, Subsystem: r.Subsystem, Device: r.Device, Lost: r.Lost,
		}
		if r.Caller != 0 {
			row.Caller = r.Caller.String()
		}
		if l.opts.clock {
			at := l.boot.Add(r.Time)
			row.Time = &at
		}
		if r.Err != nil {
			row.Missing = r.Err.Error()
		}
		return emit(&row)
	})
}

// Names as dmesg(1) has them: of levels, and of the facilities of syslog(3).
var (
	levelNames    = [...]string{"emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"}
	facilityNames = [...]string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
		"res0", "res1", "res2", "res3", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}
)

func levelName(n uint8) string { return levelNames[n&7] }

func facilityName(n uint8) string {
	if int(n) < len(facilityNames) {
		return facilityNames[n]
	}
	return fmt.Sprint(n)
}

// levelsFlag is a set of levels: none of them are all.
type levelsFlag struct {
	text string
	set  [len(levelNames)]bool
}

func (f *levelsFlag) String() string { return f.text }
func (f *levelsFlag) Type() string   { return "list" }
func (f *levelsFlag) Set(s string) error {
	for name := range strings.SplitSeq(s, ",") {
		name, worse := strings.CutSuffix(name, "+")
		n := slices.Index(levelNames[:], name)
		if n < 0 {
			return fmt.Errorf("want %s", strings.Join(levelNames[:], ", "))
		}
		for f.set[n] = true; worse && n > 0; n-- {
			f.set[n-1] = true
		}
	}
	f.text = s
	return nil
}

func (f *levelsFlag) has(level uint8) bool { return f.text == "" || f.set[level&7] }

// findBoot finds out when the kernel started: by its clock, by what it says of setting
// that, or, of one that crashed, by the time of the crash, which its last message is taken
// to tell of.
func (l *kernelLog) findBoot() error {
	clock, why := l.kernel.Clock(l.ctx)
	if why == nil && !clock.Now.IsZero() {
		l.boot = clock.Now.Add(-clock.Uptime).Local()
		return nil
	}
	var last time.Duration
	for r, err := range l.kernel.Log(l.ctx) {
		if err != nil {
			return err
		}
		if at, ok := clockSet(r.Text); ok {
			l.boot = at.Add(-r.Time)
			return nil
		}
		last = max(last, r.Time)
	}
	crash, ok := l.kernel.VMCoreInfo().Value("CRASHTIME")
	if !ok || crash > maxSeconds {
		return errors.Join(fmt.Errorf("%s: what time it was is not known: %w", l.kernel.Info().Name, errors.ErrUnsupported), why)
	}
	l.boot = time.Unix(int64(crash), 0).Add(-last)
	return nil
}

// maxSeconds is more than a clock is believed, in seconds since 1970.
const maxSeconds = 1 << 40

// clockSet takes the time out of the message with which the kernel takes it over from the
// hardware (rtc_hctosys in drivers/rtc/class.c): "setting system clock to ... UTC (1795301785)".
func clockSet(text string) (time.Time, bool) {
	_, rest, ok := strings.Cut(text, "setting system clock to ")
	_, digits, found := strings.Cut(strings.TrimSuffix(rest, ")"), " UTC (")
	n, err := strconv.ParseInt(digits, 10, 64)
	return time.Unix(n, 0), ok && found && err == nil && n > 0 && n < maxSeconds
}

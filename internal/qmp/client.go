// SPDX-License-Identifier: Apache-2.0

package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// maxMessage is the size in bytes of the largest message that is taken. The longest
// real ones are pictures of a big machine's memory as text, of some 100 KiB.
const maxMessage = 16 << 20

var (
	// ErrClosed says that the connection has ended: closed here, or by QEMU.
	ErrClosed = errors.New("qmp: connection closed")

	// ErrNoGreeting says that something else than QMP's greeting came, or nothing
	// before the end of the connection: it is no QMP socket.
	ErrNoGreeting = errors.New("no greeting: this is not a QMP socket")

	// ErrSilent says that no greeting came in time.
	ErrSilent = errors.New("no greeting: another client may hold the socket, as QEMU serves one at a time; or QEMU hangs, or it is no QMP socket")
)

// ErrUnanswered says that there was a greeting and then no answer in time. It Is ErrSilent.
var ErrUnanswered error = unanswered{}

type unanswered struct{}

func (unanswered) Error() string {
	return "it greeted as QMP and then did not answer: another client may hold what is behind the socket, or QEMU hangs"
}
func (unanswered) Is(target error) bool { return target == ErrSilent }

// Version is QEMU's, from its greeting.
type Version struct {
	Major, Minor, Micro int
	Package             string // the distribution's own name of its build
}

// Event is something that QEMU tells without being asked.
type Event struct {
	Name string          // STOP, RESUME, SHUTDOWN, DUMP_COMPLETED...
	Data json.RawMessage // nil where the event has none
	Time time.Time       // QEMU's clock; zero where it had none
}

// Error is QEMU's refusal of a command.
type Error struct {
	Command string
	Class   string // GenericError, CommandNotFound, DeviceNotFound...
	Desc    string // for people
}

func (e *Error) Error() string {
	return fmt.Sprintf("qmp: %s: %s (%s)", e.Command, e.Desc, e.Class)
}

// Client is one connection. Commands may be given from any number of goroutines at
// once; QEMU carries them out in the order in which they were sent.
type Client struct {
	conn    net.Conn
	version Version
	onEvent func(Event)
	done    chan struct{} // closed when the reader has ended

	write sync.Mutex // holds one message together

	mu      sync.Mutex
	lastID  uint64
	waiting map[uint64]chan<- reply // each takes one reply without waiting
	err     error                   // why the reader ended
}

type reply struct {
	value json.RawMessage
	err   *wireError
}

type wireError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

// message is anything that QEMU says.
type message struct {
	Greeting *struct {
		Version struct {
			QEMU    struct{ Major, Minor, Micro int }
			Package string
		}
	} `json:"QMP"`
	ID     *uint64         `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *wireError      `json:"error"`
	Event  string          `json:"event"`
	Data   json.RawMessage `json:"data"`
	Time   *struct {
		Seconds      int64 `json:"seconds"`
		Microseconds int64 `json:"microseconds"`
	} `json:"timestamp"`
}

// Dial connects to the unix socket at path and opens the conversation. onEvent is as
// for New. Where ctx reaches its deadline before there is a greeting, the error Is
// ErrSilent too, and ErrUnanswered where it is there.
func Dial(ctx context.Context, path string, onEvent func(Event)) (*Client, error) {
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			return New(ctx, conn, onEvent)
		}
		if late, ok := errors.AsType[net.Error](err); !ok || !late.Timeout() {
			return nil, fmt.Errorf("qmp: %w", err)
		}
		// Where too many wait for QEMU to accept them, the system says so at once.
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("qmp: %w", silent(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// silent is the error of a context that ended before there was a greeting.
func silent(ctx context.Context) error {
	if err := ctx.Err(); err != context.DeadlineExceeded {
		return err
	}
	return fmt.Errorf("%w: %w", ErrSilent, context.DeadlineExceeded)
}

// New opens the conversation on conn, which it owns from then on, also when it fails:
// it awaits the greeting and leaves the negotiation. ctx bounds that alone.
//
// onEvent, if not nil, is called for each event in order, from a goroutine of the
// client's. No reply is read until it returns, so it must not give a command itself.
func New(ctx context.Context, conn net.Conn, onEvent func(Event)) (*Client, error) {
	c := &Client{conn: conn, onEvent: onEvent, done: make(chan struct{}), waiting: map[uint64]chan<- reply{}}
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	in := &boundedReader{from: conn, left: maxMessage}
	dec := json.NewDecoder(in)
	var hello message
	err := dec.Decode(&hello)
	switch {
	case !stop():
		err = silent(ctx)
	case err != nil:
		err = fmt.Errorf("%w (%w)", ErrNoGreeting, err)
	case hello.Greeting == nil:
		err = ErrNoGreeting
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("qmp: %w", err)
	}
	v := hello.Greeting.Version
	c.version = Version{v.QEMU.Major, v.QEMU.Minor, v.QEMU.Micro, v.Package}
	go c.read(dec, in)
	if err := c.Execute(ctx, "qmp_capabilities", nil, nil); err != nil {
		c.Close()
		if ctx.Err() == context.DeadlineExceeded {
			return nil, fmt.Errorf("qmp: %w: %w", ErrUnanswered, context.DeadlineExceeded)
		}
		return nil, err
	}
	return c, nil
}

// Version gives what QEMU said it is.
func (c *Client) Version() Version { return c.version }

// Peer gives the number, here, of the process at the other end: of the one that made the
// socket. It is 0 where that is in a pid namespace that this one cannot see, or where the
// system does not tell.
func (c *Client) Peer() int { return peer(c.conn) }

// File gives another descriptor of the connection, the caller's to close. What two of them
// say, and hear, must not be mixed: it is for who goes on when this process is no more.
// Package os/exec has reads of both wait in the system from then on: see Resume.
func (c *Client) File() (*os.File, error) {
	u, ok := c.conn.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("qmp: the connection is no socket of the system: %w", errors.ErrUnsupported)
	}
	return u.File()
}

// Resume has reads of the connection be such again that Close ends them. One that began
// before ends with the next thing that QEMU says.
func (c *Client) Resume() { nonblocking(c.conn) }

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Close ends the connection and waits for the last event to be handled. The machine
// goes on as it is. Commands under way give ErrClosed.
func (c *Client) Close() error {
	c.fail(ErrClosed)
	err := c.conn.Close()
	<-c.done
	return err
}

// Execute gives a command and waits for its reply. args is encoded as a JSON object;
// nil is for none. result, if not nil, is decoded into. A refusal is an *Error. When
// ctx ends first the command is not taken back: QEMU carries it out all the same.
func (c *Client) Execute(ctx context.Context, command string, args, result any) error {
	return c.ExecuteFile(ctx, nil, command, args, result)
}

// ExecuteFile is Execute for a command that takes a file which is sent along, such as
// "getfd" and "add-fd". The file stays the caller's. Where the connection or the system
// cannot send files, the error Is errors.ErrUnsupported, and nothing was sent.
func (c *Client) ExecuteFile(ctx context.Context, file *os.File, command string, args, result any) error {
	answer := make(chan reply, 1)
	id, err := c.enlist(answer)
	if err != nil {
		return err
	}
	defer c.forget(id)
	if err := c.send(ctx, file, command, args, id); err != nil {
		return err
	}
	var r reply
	select {
	case r = <-answer:
	case <-ctx.Done():
		return fmt.Errorf("qmp: %s: %w", command, ctx.Err())
	case <-c.done:
		select {
		case r = <-answer: // it was the last thing said
		default:
			return fmt.Errorf("qmp: %s: %w", command, c.why())
		}
	}
	if r.err != nil {
		return &Error{Command: command, Class: r.err.Class, Desc: r.err.Desc}
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(r.value, result); err != nil {
		return fmt.Errorf("qmp: %s: the reply: %w", command, err)
	}
	return nil
}

// HMP gives a line to the monitor for people, and gives what it prints, with line
// ends as it prints them (CR LF). A line that it does not understand is no error: the
// text says so.
func (c *Client) HMP(ctx context.Context, line string) (string, error) {
	var text string
	err := c.Execute(ctx, "human-monitor-command", map[string]string{"command-line": line}, &text)
	return text, err
}

// send writes one command.
func (c *Client) send(ctx context.Context, file *os.File, command string, args any, id uint64) error {
	msg, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, args, id})
	if err != nil {
		return fmt.Errorf("qmp: %s: %w", command, err)
	}
	c.write.Lock()
	defer c.write.Unlock()
	deadline, _ := ctx.Deadline()
	c.conn.SetWriteDeadline(deadline)
	if err := c.put(append(msg, '\n'), file); errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("qmp: %s: sending a file: %w", command, err)
	} else if err != nil {
		// Part of it may have been sent: nothing after it would be understood.
		c.fail(err)
		c.conn.Close()
		return fmt.Errorf("qmp: %s: %w", command, c.why())
	}
	return nil
}

// put writes a message, and a file with its beginning.
func (c *Client) put(msg []byte, file *os.File) error {
	if file != nil {
		n, err := sendFile(c.conn, msg, file)
		if msg = msg[n:]; err != nil || len(msg) == 0 {
			return err
		}
	}
	_, err := c.conn.Write(msg)
	return err
}

func (c *Client) enlist(answer chan<- reply) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	c.lastID++
	c.waiting[c.lastID] = answer
	return c.lastID, nil
}

func (c *Client) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

// fail records the first reason for the end.
func (c *Client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
}

func (c *Client) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// read hands out what QEMU says until the connection ends.
func (c *Client) read(dec *json.Decoder, in *boundedReader) {
	defer close(c.done)
	for {
		in.left = maxMessage
		var m message
		if err := dec.Decode(&m); err != nil {
			if err == io.EOF {
				err = ErrClosed
			}
			c.fail(err)
			c.conn.Close()
			return
		}
		switch {
		case m.Event != "":
			if c.onEvent != nil {
				c.onEvent(m.event())
			}
		case m.ID != nil:
			c.answer(*m.ID, reply{m.Return, m.Error})
		}
	}
}

func (c *Client) answer(id uint64, r reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if to, ok := c.waiting[id]; ok {
		delete(c.waiting, id) // a second answer finds nobody
		to <- r
	}
}

func (m *message) event() Event {
	e := Event{Name: m.Event, Data: m.Data}
	if m.Time != nil && m.Time.Seconds >= 0 {
		e.Time = time.Unix(m.Time.Seconds, m.Time.Microseconds*1000)
	}
	return e
}

// boundedReader ends a message that has no end.
type boundedReader struct {
	from io.Reader
	left int
}

func (r *boundedReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, fmt.Errorf("a message of more than %d bytes", maxMessage)
	}
	n, err := r.from.Read(p)
	r.left -= n
	return n, err
}

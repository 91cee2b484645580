// Package client holds what the two programs have in common: the command line, the lines that are printed, and the
// pauses between two connections.
package client

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	pb "theblock-client/gen"
)

// MaxMessageBytes is the largest message taken: a single update may be larger than 1 MiB.
const MaxMessageBytes = 16 << 20

const usage = `usage: %[1]s ADDRESS list
       %[1]s ADDRESS subscribe STREAM [--since EPOCH-SEQ | --last N] [--count N]
`

// Arguments of the command line.
type Arguments struct {
	Address string
	Command string       // list or subscribe
	Stream  string       // to subscribe to
	Since   *pb.Position // where to begin; nil: not given
	Last    *uint32      // how many of the newest updates to begin with; nil: not given
	Count   int          // after how many updates to end
}

// ParseArguments reads the command line, or ends the program.
func ParseArguments() Arguments {
	parsed, ok := parse(os.Args[1:])
	if !ok {
		fmt.Fprintf(os.Stderr, usage, os.Args[0])
		os.Exit(2)
	}
	return parsed
}

var position = regexp.MustCompile(`^(.+)-(\d+)$`)

func parse(words []string) (Arguments, bool) {
	parsed := Arguments{Count: math.MaxInt}
	if len(words) == 2 && words[1] == "list" {
		parsed.Address, parsed.Command = words[0], words[1]
		return parsed, true
	}
	if len(words) < 3 || words[1] != "subscribe" || len(words)%2 == 0 {
		return parsed, false
	}
	parsed.Address, parsed.Command, parsed.Stream = words[0], words[1], words[2]
	for options := words[3:]; len(options) > 0; options = options[2:] {
		number, err := strconv.ParseUint(options[1], 10, 32)
		switch options[0] {
		case "--since":
			found := position.FindStringSubmatch(options[1])
			if found == nil {
				return parsed, false
			}
			var seq uint64
			seq, err = strconv.ParseUint(found[2], 10, 64)
			parsed.Since = &pb.Position{Epoch: found[1], Seq: seq}
		case "--last":
			last := uint32(number)
			parsed.Last = &last
		case "--count":
			parsed.Count = int(number)
		default:
			return parsed, false
		}
		if err != nil {
			return parsed, false
		}
	}
	return parsed, true
}

// line is a line of output; members without a value are left out.
type line struct {
	Stream   string          `json:"stream"`
	Epoch    string          `json:"epoch"`
	Seq      uint64          `json:"seq"`
	Key      string          `json:"key,omitempty"`
	TimeMs   int64           `json:"time_ms,omitempty"`
	Snapshot bool            `json:"snapshot,omitempty"`
	Reason   string          `json:"reason,omitempty"`
	Data     json.RawMessage `json:"data,omitempty"`
}

// PrintUpdate prints an update; snapshot says that it repeats an earlier one.
func PrintUpdate(update *pb.Update, snapshot bool) {
	printLine(line{
		Stream: update.Stream, Epoch: update.Epoch, Seq: update.Seq, Key: update.Key,
		TimeMs: update.TimeMs, Snapshot: snapshot, Data: data(update),
	})
}

// PrintLost tells that the updates up to a position will not come, and why.
func PrintLost(stream string, at *pb.Position, reason string) {
	printLine(line{Stream: stream, Epoch: at.Epoch, Seq: at.Seq, Reason: reason})
}

// PrintStream prints the description of a stream; delivery is in words.
func PrintStream(info *pb.StreamInfo, delivery string) {
	printLine(map[string]any{
		"stream": info.Stream, "type": info.Type, "delivery": delivery, "keyed": info.Keyed,
		"epoch": info.Epoch, "oldest": info.Oldest, "newest": info.Newest,
	})
}

func data(update *pb.Update) json.RawMessage {
	if custom := update.GetCustom(); custom != nil {
		return custom.Json
	}
	message := update.ProtoReflect()
	field := message.WhichOneof(message.Descriptor().Oneofs().ByName("data"))
	if field == nil {
		return nil
	}
	encoded, err := protojson.Marshal(message.Get(field).Message().Interface())
	if err != nil {
		Fail(err)
	}
	return encoded
}

func printLine(value any) {
	encoded, err := json.Marshal(value)
	if err != nil {
		Fail(err)
	}
	fmt.Println(string(encoded))
}

// Note tells something on standard error.
func Note(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
}

// Fail ends the program with a sentence.
func Fail(err error) {
	Note("%v", err)
	os.Exit(1)
}

// Backoff says how long to wait before the next connection: longer each time.
type Backoff struct{ next time.Duration }

const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

// Reset begins with short pauses again, once a connection has proved good.
func (b *Backoff) Reset() { b.next = firstPause }

// Wait waits, spread at random so that many clients do not come back at once, and at least as long as is asked for.
func (b *Backoff) Wait(ctx context.Context, atLeast time.Duration) {
	b.next = max(b.next, firstPause)
	select {
	case <-time.After(atLeast + b.next/2 + rand.N(b.next/2)):
	case <-ctx.Done():
	}
	b.next = min(2*b.next, longestPause)
}

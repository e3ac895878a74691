// Conformance drives this client for the conformance suite of trackd: it is given the daemon's address, reads one JSON
// object a line, does it, and writes one JSON object a line. See clients/conformance in the repository.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"trackd.dev/clients/go/trackd"
	trackdv1 "trackd.dev/clients/go/trackd/v1"
)

const unaryTimeout = 30 * time.Second

func main() {
	if len(os.Args) != 2 || strings.HasPrefix(os.Args[1], "-") {
		fmt.Fprintln(os.Stderr, "usage: conformance HOST:PORT\n\nReads commands of the conformance suite of trackd from"+
			" standard input, one JSON object a line.")
		os.Exit(2)
	}
	options, err := secured()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	client, err := trackd.NewClient(os.Args[1], options...)
	if err == nil {
		defer client.Close()
		err = (&driver{client: client}).serve(os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// secured is TLS and a token, as the environment has them.
func secured() (options []grpc.DialOption, err error) {
	if ca := os.Getenv("TRACKD_CA"); ca != "" {
		trusted, err := credentials.NewClientTLSFromFile(ca, "")
		if err != nil {
			return nil, err
		}
		options = append(options, grpc.WithTransportCredentials(trusted))
	}
	if token := os.Getenv("TRACKD_TOKEN"); token != "" {
		options = append(options, trackd.WithToken(token))
	}
	return options, nil
}

// command is any command; each uses some of the fields.
type command struct {
	Cmd           string  `json:"cmd"`
	Source        string  `json:"source"`
	Events        []event `json:"events"`
	Atomic        bool    `json:"atomic"`
	Durability    string  `json:"durability"`
	BatchEvents   int     `json:"batch_events"`
	WindowBatches int     `json:"window_batches"`
	From          int64   `json:"from"`
	To            int64   `json:"to"`
	Type          string  `json:"type"`
	BaseMs        int64   `json:"base_ms"`
	Padding       int     `json:"padding"`
	PauseUs       int64   `json:"pause_us"`
}

// object is any answer.
type object = map[string]any

type driver struct {
	client   *trackd.Client
	appender *trackd.Appender

	mutex      sync.Mutex // OnResult runs on another goroutine
	rejections []rejection
}

type rejection struct {
	Sequence int64  `json:"sequence"`
	Reason   string `json:"reason"`
}

func (d *driver) serve(commands io.Reader, answers io.Writer) error {
	decoder := json.NewDecoder(bufio.NewReader(commands))
	encoder := json.NewEncoder(answers)
	for {
		var next command
		if err := decoder.Decode(&next); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		answer, err := d.do(context.Background(), next)
		if err != nil {
			answer = object{"error": failure(err)}
		}
		if err := encoder.Encode(answer); err != nil {
			return err
		}
	}
}

func (d *driver) do(ctx context.Context, next command) (object, error) {
	if d.appender == nil && (next.Cmd == "send" || next.Cmd == "send_made" || next.Cmd == "flush" || next.Cmd == "close") {
		return nil, errors.New("nothing is open")
	}
	switch next.Cmd {
	case "append":
		return d.append(ctx, next)
	case "open":
		d.open(next)
		return object{"opened": true}, nil
	case "send":
		events, err := messages(next.Events)
		if err != nil {
			return nil, err
		}
		return object{"sent": len(events)}, d.appender.Send(ctx, events...)
	case "send_made":
		return object{"sent": next.To - next.From}, d.sendMade(ctx, next)
	case "flush":
		totals, err := d.appender.Flush(ctx)
		return d.told(totals), err
	case "close":
		totals, err := d.appender.Close(ctx)
		return d.told(totals), err
	case "stats":
		return d.stats()
	default:
		return nil, fmt.Errorf("nobody knows the command %q", next.Cmd)
	}
}

func (d *driver) append(ctx context.Context, next command) (object, error) {
	ctx, cancel := context.WithTimeout(ctx, unaryTimeout)
	defer cancel()
	events, err := messages(next.Events)
	if err != nil {
		return nil, err
	}
	options := []trackd.AppendOption{trackd.WithDurability(durability(next.Durability))}
	if next.Atomic {
		options = append(options, trackd.Atomic())
	}
	result, err := d.client.Append(ctx, next.Source, events, options...)
	if err != nil {
		return nil, err
	}
	items := []object{}
	for _, item := range result.GetItems() {
		outcome := "rejected"
		if item.GetOutcome() == trackdv1.AppendOutcome_APPEND_OUTCOME_DUPLICATE {
			outcome = "duplicate"
		}
		items = append(items, object{
			"index": item.GetIndex(), "outcome": outcome, "reason": item.GetReason(), "field": item.GetField(),
			"retryable": item.GetRetryable(),
		})
	}
	return object{"result": object{
		"accepted": result.GetAccepted(), "duplicate": result.GetDuplicate(), "rejected": result.GetRejected(),
		"queued": result.GetQueued(), "items": items,
	}}, nil
}

func (d *driver) open(next command) {
	d.rejections = nil
	d.appender = d.client.NewAppender(trackd.AppenderConfig{
		Source:        next.Source,
		Durability:    durability(next.Durability),
		BatchEvents:   next.BatchEvents,
		WindowBatches: next.WindowBatches,
		Linger:        -1, // batches of the size asked for
		OnResult: func(result trackd.BatchResult) {
			d.mutex.Lock()
			defer d.mutex.Unlock()
			for _, one := range result.Rejections {
				d.rejections = append(d.rejections, rejection{one.Sequence, one.Reason})
			}
		},
	})
}

func (d *driver) sendMade(ctx context.Context, next command) error {
	for n := next.From; n < next.To; n++ {
		if err := d.appender.Send(ctx, made(n, next)); err != nil {
			return err
		}
		if next.PauseUs > 0 && (n-next.From+1)%100 == 0 {
			time.Sleep(time.Duration(next.PauseUs) * time.Microsecond)
		}
	}
	return nil
}

func (d *driver) told(totals trackd.Totals) object {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	rejections := append([]rejection{}, d.rejections...)
	// They come in order of answers; a batch that was refused for now may be answered after younger ones.
	sort.Slice(rejections, func(one, other int) bool { return rejections[one].Sequence < rejections[other].Sequence })
	return object{
		"totals":     object{"accepted": totals.Accepted, "duplicate": totals.Duplicate, "rejected": totals.Rejected},
		"rejections": rejections,
	}
}

func (d *driver) stats() (object, error) {
	open := int64(0)
	if d.appender != nil {
		open = d.appender.Unacknowledged()
	}
	status, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return nil, err
	}
	pages, err := strconv.ParseInt(strings.Fields(string(status))[1], 10, 64)
	return object{"rss_bytes": pages * int64(os.Getpagesize()), "unacknowledged": open}, err
}

// failure is an error as the suite has it.
func failure(err error) object {
	told := object{"code": "", "reason": "", "retryable": false, "retry_after_ms": nil, "message": err.Error()}
	var known *trackd.Error
	if errors.As(err, &known) {
		told["code"], told["reason"], told["retryable"] = code.Code_name[int32(known.Code)], known.Reason, known.Retryable
		if known.RetryAfter > 0 {
			told["retry_after_ms"] = known.RetryAfter.Milliseconds()
		}
	}
	var gaveUp *trackd.GaveUpError
	if errors.As(err, &gaveUp) {
		told["retryable"] = true
		if told["reason"] == "" {
			told["reason"] = "NO_PROGRESS"
		}
	}
	return told
}

func durability(name string) trackd.Durability {
	if name == "accepted" {
		return trackd.DurabilityAccepted
	}
	return trackd.DurabilityDurable
}

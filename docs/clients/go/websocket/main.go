// Reads a sidecar over its WebSocket, in protobuf frames, and resumes whenever the connection is lost.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"

	"theblock-client/client"
	pb "theblock-client/gen"
)

const (
	subprotocol = "theblock.v1.proto"
	openTime    = 10 * time.Second
	pingTime    = 10 * time.Second
	silence     = 25 * time.Second // without any frame, though pings are answered: the connection is dead

	upstreamUnavailable = -32010 // error code: ask again later
)

// refused is an answer that stays the same however often one asks.
type refused struct{ error }

// socket is one connection.
type socket struct {
	*websocket.Conn
	retryAfter time.Duration // when the sidecar wants to see this client again
}

func main() {
	asked := client.ParseArguments()
	var err error
	if asked.Command == "list" {
		err = list(asked)
	} else {
		err = subscribe(asked)
	}
	if err != nil {
		client.Fail(err)
	}
}

// list prints every stream.
func list(asked client.Arguments) error {
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	s, err := open(ctx, asked.Address)
	if err != nil {
		return err
	}
	defer s.CloseNow()
	if err := s.send(ctx, &pb.ClientFrame{Id: proto.Uint64(1), Request: &pb.ClientFrame_List{List: &pb.ListFrame{}}}); err != nil {
		return err
	}
	for {
		frame, err := s.read(ctx)
		if err != nil {
			return err
		}
		if streams := frame.GetResponse().GetStreams(); streams != nil {
			for _, info := range streams.Streams {
				client.PrintStream(info, strings.ToLower(strings.TrimPrefix(info.Delivery.String(), "DELIVERY_")))
			}
			return nil
		}
		if err := failure(frame.GetResponse()); err != nil {
			return err
		}
	}
}

// subscribe prints updates, over as many connections as it takes.
func subscribe(asked client.Arguments) error {
	subscription := client.Subscription{Stream: asked.Stream, Left: asked.Count}
	var pause client.Backoff
	for subscription.Left > 0 {
		retryAfter, err := follow(asked, &subscription, &pause)
		if subscription.Left == 0 {
			break
		}
		if errors.As(err, &refused{}) {
			return err
		}
		client.Note("connection lost: %v", err)
		pause.Wait(context.Background(), retryAfter)
	}
	return nil
}

// follow serves one connection, until it ends or enough has been printed.
func follow(asked client.Arguments, s *client.Subscription, pause *client.Backoff) (time.Duration, error) {
	s.Connect()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	opening, opened := context.WithTimeout(ctx, openTime)
	defer opened()
	connection, err := open(opening, asked.Address)
	if err != nil {
		return 0, err
	}
	defer connection.CloseNow()
	if err := connection.send(opening, request(asked, s)); err != nil {
		return 0, err
	}
	go connection.pings(ctx)
	for s.Left > 0 {
		frame, err := connection.read(ctx)
		if err != nil {
			return connection.retryAfter, err
		}
		pause.Reset()
		if err := connection.take(s, frame); err != nil {
			return connection.retryAfter, err
		}
	}
	connection.Close(websocket.StatusNormalClosure, "")
	return 0, nil
}

// request asks for what follows the last update that was printed, if there is one.
func request(asked client.Arguments, s *client.Subscription) *pb.ClientFrame {
	spec := &pb.SubscriptionSpec{Stream: s.Stream}
	switch {
	case s.Position != nil:
		spec.Start = &pb.SubscriptionSpec_Since{Since: s.Position}
	case asked.Since != nil:
		spec.Start = &pb.SubscriptionSpec_Since{Since: asked.Since}
	case asked.Last != nil:
		spec.Start = &pb.SubscriptionSpec_Last{Last: *asked.Last}
	}
	frame := &pb.SubscribeFrame{Subscriptions: []*pb.SubscriptionSpec{spec}}
	return &pb.ClientFrame{Id: proto.Uint64(1), Request: &pb.ClientFrame_Subscribe{Subscribe: frame}}
}

// take takes a frame in.
func (c *socket) take(s *client.Subscription, received *pb.ServerFrame) error {
	switch frame := received.Frame.(type) {
	case *pb.ServerFrame_Response:
		if err := failure(frame.Response); err != nil {
			c.retryAfter = 500 * time.Millisecond
			return err
		}
		for _, row := range frame.Response.GetSubscribed().GetSubscriptions() {
			at := &pb.Position{Epoch: row.Epoch, Seq: row.Seq}
			s.Begin(at)
			// The position is worth nothing (with `trimmed` a gap follows): say so, and go on where the stream begins.
			if row.Reason == "epoch" || row.Reason == "ahead" {
				client.PrintLost(s.Stream, at, row.Reason)
			}
		}
	case *pb.ServerFrame_Gap:
		at := &pb.Position{Epoch: frame.Gap.Epoch, Seq: frame.Gap.To}
		if frame.Gap.Reason != "epoch" {
			s.Begin(at)
		}
		client.PrintLost(s.Stream, at, frame.Gap.Reason)
	case *pb.ServerFrame_Snapshot:
		client.PrintUpdate(frame.Snapshot.Update, true)
	case *pb.ServerFrame_Update:
		s.Take(frame.Update)
	case *pb.ServerFrame_Pong: // it comes behind everything that answers what was asked before the ping
		s.Settle()
	case *pb.ServerFrame_Progress:
		for _, at := range frame.Progress.Positions {
			s.MoveOn(at.Stream, at.Epoch, at.Seq)
		}
	case *pb.ServerFrame_GoingAway:
		c.retryAfter = time.Duration(frame.GoingAway.RetryAfterMs) * time.Millisecond
	}
	return nil
}

// failure returns why a request failed, or nil. UPSTREAM_UNAVAILABLE alone may be asked again, with the same position.
func failure(response *pb.ResponseFrame) error {
	failed := response.GetError()
	if failed == nil {
		return nil
	}
	if failed.Code == upstreamUnavailable {
		return errors.New(failed.Message)
	}
	return refused{errors.New(failed.Message)}
}

// open connects, and reads the welcome.
func open(ctx context.Context, url string) (*socket, error) {
	connection, answer, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{subprotocol}})
	if answer != nil && answer.StatusCode >= 400 && answer.StatusCode < 500 && answer.StatusCode != http.StatusTooManyRequests {
		return nil, refused{err}
	}
	if err != nil {
		return nil, err
	}
	connection.SetReadLimit(client.MaxMessageBytes)
	c := &socket{Conn: connection}
	frame, err := c.read(ctx)
	if err == nil && frame.GetWelcome() == nil {
		err = fmt.Errorf("the first frame is a %T, not a welcome", frame.Frame)
	}
	if err != nil {
		c.CloseNow()
	}
	return c, err
}

func (c *socket) send(ctx context.Context, frame *pb.ClientFrame) error {
	payload, err := proto.Marshal(frame)
	if err != nil {
		return err
	}
	return c.Write(ctx, websocket.MessageBinary, payload)
}

// read returns the next frame.
func (c *socket) read(ctx context.Context) (*pb.ServerFrame, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	_, payload, err := c.Read(ctx)
	if code := websocket.CloseStatus(err); isFinal(code) {
		return nil, refused{err}
	}
	if err != nil {
		return nil, err
	}
	frame := &pb.ServerFrame{}
	return frame, proto.Unmarshal(payload, frame)
}

// pings asks for pongs, at once and then regularly; it ends with the connection.
func (c *socket) pings(ctx context.Context) {
	for ctx.Err() == nil {
		frame := &pb.ClientFrame{Request: &pb.ClientFrame_Ping{Ping: &pb.PingFrame{}}}
		if c.send(ctx, frame) != nil {
			return
		}
		select {
		case <-time.After(pingTime):
		case <-ctx.Done():
		}
	}
}

// isFinal says whether a close code means that coming back does not help.
func isFinal(code websocket.StatusCode) bool {
	broken := []websocket.StatusCode{1002, 1003, 1007, 1009}
	return slices.Contains(broken, code) || code >= 4500 && code < 5000
}

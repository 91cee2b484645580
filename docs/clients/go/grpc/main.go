// Reads a state service over gRPC, and resumes whenever the connection is lost.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"theblock-client/client"
	pb "theblock-client/gen"
)

// final are the answers that will be the same however often one asks.
var final = []codes.Code{codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented}

func main() {
	asked := client.ParseArguments()
	connection, err := grpc.NewClient(asked.Address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(client.MaxMessageBytes)),
		// So that a connection that died without a word is noticed.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		// Short: how long to wait is decided in subscribe.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}))
	if err != nil {
		client.Fail(err)
	}
	service := pb.NewStateStreamServiceClient(connection)
	if asked.Command == "list" {
		err = list(service)
	} else {
		err = subscribe(service, asked)
	}
	if err != nil {
		client.Fail(err)
	}
}

// list prints every stream.
func list(service pb.StateStreamServiceClient) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	response, err := service.ListStreams(ctx, &pb.ListStreamsRequest{})
	if err != nil {
		return err
	}
	for _, info := range response.Streams {
		client.PrintStream(info, short(info.Delivery, "DELIVERY_"))
	}
	return nil
}

// subscribe prints updates, over as many connections as it takes.
func subscribe(service pb.StateStreamServiceClient, asked client.Arguments) error {
	subscription := client.Subscription{Stream: asked.Stream, Left: asked.Count}
	var pause client.Backoff
	for subscription.Left > 0 {
		err := follow(service, asked, &subscription, &pause)
		if subscription.Left == 0 {
			break
		}
		if slices.Contains(final, status.Code(err)) {
			return err
		}
		client.Note("connection lost: %v", err)
		pause.Wait(context.Background(), 0)
	}
	return nil
}

// follow serves one connection, until it ends or enough has been printed.
func follow(
	service pb.StateStreamServiceClient, asked client.Arguments, s *client.Subscription, pause *client.Backoff,
) error {
	s.Connect()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	call, err := service.Subscribe(ctx, &pb.SubscribeRequest{Streams: []*pb.StreamStart{start(asked, s)}})
	if err != nil {
		return err
	}
	for s.Left > 0 {
		response, err := call.Recv()
		if errors.Is(err, io.EOF) {
			return errors.New("the service ended the subscription")
		}
		if err != nil {
			return err
		}
		pause.Reset()
		take(s, response)
	}
	return nil
}

// start returns where a connection begins: behind the last update that was printed, if there is one.
func start(asked client.Arguments, s *client.Subscription) *pb.StreamStart {
	start := &pb.StreamStart{Stream: s.Stream}
	switch {
	case s.Position != nil:
		start.Start = &pb.StreamStart_Since{Since: s.Position}
	case asked.Since != nil:
		start.Start = &pb.StreamStart_Since{Since: asked.Since}
	case asked.Last != nil:
		start.Start = &pb.StreamStart_Last{Last: *asked.Last}
	}
	return start
}

// take takes a response in; its parts apply in this order.
func take(s *client.Subscription, response *pb.SubscribeResponse) {
	for _, started := range response.Started {
		at := &pb.Position{Epoch: started.Info.Epoch, Seq: started.Seq}
		s.Begin(at)
		// The position is worth nothing (REASON_TRIMMED comes with a gap): say so, and go on where the stream begins.
		if started.Reason == pb.Reason_REASON_EPOCH || started.Reason == pb.Reason_REASON_AHEAD {
			client.PrintLost(s.Stream, at, short(started.Reason, "REASON_"))
		}
	}
	for _, gap := range response.Gaps {
		at := &pb.Position{Epoch: gap.Epoch, Seq: gap.To}
		s.Begin(at)
		client.PrintLost(s.Stream, at, short(gap.Reason, "REASON_"))
	}
	for _, update := range response.Snapshots {
		client.PrintUpdate(update, true)
	}
	// Updates and progress come behind everything that a beginning consists of.
	for _, update := range response.Updates {
		s.Take(update)
	}
	for _, at := range response.Progress {
		s.MoveOn(at.Stream, at.Epoch, at.Seq)
	}
}

// short returns the name of an enum's value as this program prints it.
func short(value fmt.Stringer, prefix string) string {
	return strings.ToLower(strings.TrimPrefix(value.String(), prefix))
}

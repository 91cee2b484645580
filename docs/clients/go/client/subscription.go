package client

import pb "theblock-client/gen"

// Subscription is what is known of a subscription over all its connections.
//
// The resume rule: ask for what follows the last update that was printed. Only while there is none yet, ask as at
// first. The service then sends every update after the position, once and in order, and goes on live.
type Subscription struct {
	Stream   string
	Left     int          // updates still to print
	Position *pb.Position // everything up to here has been printed, or was announced as lost; nil: nothing yet
	begins   *pb.Position // position that was announced, while what belongs to it is still to come
}

// Connect begins a connection.
func (s *Subscription) Connect() { s.begins = nil }

// Begin takes note of an announced position. It counts only when everything that belongs to it has come: a connection
// that is cut before that leaves the position as it was, and the next one asks for the beginning again.
func (s *Subscription) Begin(at *pb.Position) { s.begins = at }

// Settle says that everything which belongs to the announced position has come.
func (s *Subscription) Settle() {
	if s.begins != nil {
		s.Position, s.begins = s.begins, nil
	}
}

// Take prints an update, unless it has come before.
func (s *Subscription) Take(update *pb.Update) {
	s.Settle()
	at := s.Position
	if at != nil && update.Epoch == at.Epoch && update.Seq <= at.Seq || s.Left == 0 {
		return
	}
	PrintUpdate(update, false)
	s.Position = &pb.Position{Epoch: update.Epoch, Seq: update.Seq} // only now that it is printed
	s.Left--
}

// MoveOn notes that the stream went on without anything for this client.
func (s *Subscription) MoveOn(stream, epoch string, seq uint64) {
	if stream == s.Stream {
		s.begins = nil
		s.Position = &pb.Position{Epoch: epoch, Seq: seq}
	}
}

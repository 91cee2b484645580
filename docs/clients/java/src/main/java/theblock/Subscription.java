package theblock;

import theblock.state.v1.Service.StreamStart;
import theblock.state.v1.Service.SubscribeRequest;
import theblock.state.v1.Service.SubscribeResponse;
import theblock.state.v1.Stream.Position;
import theblock.state.v1.Stream.Reason;
import theblock.state.v1.UpdateOuterClass.Update;

/** What is known of a subscription over all its connections. */
final class Subscription {
  private final String stream;
  private final StreamStart start; // where the first connection begins
  private long left; // updates still to print
  private Position position; // everything up to here has been printed, or was announced as lost
  private Position begins; // that the service has announced, while what belongs to it is still to come

  Subscription(String stream, StreamStart start, long count) {
    this.stream = stream;
    this.start = start;
    this.left = count;
  }

  /** How many updates are still to be printed. */
  long left() {
    return left;
  }

  /**
   * Returns the request of the next connection. The resume rule: ask for what follows the last update that was printed.
   * Only while there is none yet, ask as at first. The service then sends every update after the position, once and in
   * order, and goes on live.
   */
  SubscribeRequest request() {
    begins = null;
    var next = position == null ? start : start.toBuilder().setSince(position).build();
    return SubscribeRequest.newBuilder().addStreams(next).build();
  }

  /** Takes a response in; its parts apply in this order. */
  void take(SubscribeResponse response) {
    for (var started : response.getStartedList()) {
      begins = at(started.getInfo().getEpoch(), started.getSeq());
      // The position is worth nothing (REASON_TRIMMED comes with a gap): say so, and go on where the stream begins.
      if (started.getReason() == Reason.REASON_EPOCH || started.getReason() == Reason.REASON_AHEAD) {
        Output.printLost(stream, begins, started.getReason());
      }
    }
    for (var gap : response.getGapsList()) {
      begins = at(gap.getEpoch(), gap.getTo());
      Output.printLost(stream, begins, gap.getReason());
    }
    response.getSnapshotsList().forEach(update -> Output.printUpdate(update, true));
    // Updates or progress come behind everything that a beginning consists of. A connection that is cut before that
    // leaves the position as it was, and the next one asks for the beginning again.
    if (begins != null && (response.getUpdatesCount() > 0 || response.getProgressCount() > 0)) {
      position = begins;
      begins = null;
    }
    response.getUpdatesList().forEach(this::takeUpdate);
    for (var progress : response.getProgressList()) {
      if (progress.getStream().equals(stream)) {
        position = at(progress.getEpoch(), progress.getSeq());
      }
    }
  }

  private void takeUpdate(Update update) {
    var repeated =
        position != null
            && update.getEpoch().equals(position.getEpoch())
            && Long.compareUnsigned(update.getSeq(), position.getSeq()) <= 0;
    if (repeated || left == 0) {
      return;
    }
    Output.printUpdate(update, false);
    position = at(update.getEpoch(), update.getSeq()); // only now that it is printed
    left -= 1;
  }

  private static Position at(String epoch, long seq) {
    return Position.newBuilder().setEpoch(epoch).setSeq(seq).build();
  }
}

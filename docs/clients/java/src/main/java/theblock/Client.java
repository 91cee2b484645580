package theblock;

import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import theblock.state.v1.Service.ListStreamsRequest;
import theblock.state.v1.StateStreamServiceGrpc;
import theblock.state.v1.StateStreamServiceGrpc.StateStreamServiceBlockingStub;

/** Reads a state service over gRPC, and resumes whenever the connection is lost. How to run it: README.md. */
public final class Client {
  private static final int MAX_MESSAGE_BYTES = 16 << 20; // a single update may be larger than the usual 4 MiB
  private static final long FIRST_PAUSE_MS = 100;
  private static final long LONGEST_PAUSE_MS = 5_000;

  /** Answers that will be the same however often one asks. */
  private static final Set<Status.Code> FINAL =
      Set.of(
          Status.Code.INVALID_ARGUMENT,
          Status.Code.PERMISSION_DENIED,
          Status.Code.UNAUTHENTICATED,
          Status.Code.UNIMPLEMENTED);

  public static void main(String[] words) throws InterruptedException {
    var asked = Arguments.parse(words);
    if (asked == null) {
      System.err.println(Arguments.USAGE);
      System.exit(2);
    }
    var channel =
        NettyChannelBuilder.forTarget(asked.address())
            .usePlaintext()
            .maxInboundMessageSize(MAX_MESSAGE_BYTES)
            .keepAliveTime(30, TimeUnit.SECONDS) // so that a connection that died without a word is noticed
            .keepAliveTimeout(10, TimeUnit.SECONDS)
            .build();
    try {
      if (asked.stream() == null) {
        list(channel);
      } else {
        subscribe(channel, new Subscription(asked.stream(), asked.start(), asked.count()));
      }
    } catch (StatusRuntimeException error) {
      System.err.println(error.getMessage());
      System.exit(1);
    } finally {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  /** Prints every stream. */
  private static void list(ManagedChannel channel) {
    var service = StateStreamServiceGrpc.newBlockingStub(channel).withDeadlineAfter(10, TimeUnit.SECONDS);
    service.listStreams(ListStreamsRequest.getDefaultInstance()).getStreamsList().forEach(Output::printStream);
  }

  /** Prints updates, over as many connections as it takes. */
  private static void subscribe(ManagedChannel channel, Subscription subscription) throws InterruptedException {
    var service = StateStreamServiceGrpc.newBlockingStub(channel);
    var pause = FIRST_PAUSE_MS;
    while (subscription.left() > 0) {
      if (follow(service, subscription)) {
        pause = FIRST_PAUSE_MS;
      }
      if (subscription.left() == 0) {
        return;
      }
      // Spread, so that many clients do not come back at once.
      Thread.sleep((long) (pause * (0.5 + ThreadLocalRandom.current().nextDouble() / 2)));
      pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
      channel.resetConnectBackoff(); // how long to wait is decided here
    }
  }

  /** Serves one connection, until it ends or enough has been printed; returns whether anything came. */
  private static boolean follow(StateStreamServiceBlockingStub service, Subscription subscription) {
    var alive = false;
    try {
      var responses = service.subscribe(subscription.request());
      while (subscription.left() > 0 && responses.hasNext()) {
        subscription.take(responses.next());
        alive = true;
      }
      if (subscription.left() > 0) {
        System.err.println("the service ended the subscription");
      }
    } catch (StatusRuntimeException error) {
      if (FINAL.contains(error.getStatus().getCode())) {
        throw error;
      }
      System.err.println("connection lost: " + error.getMessage());
    }
    return alive;
  }

  private Client() {}
}

package theblock;

import theblock.state.v1.Service.StreamStart;
import theblock.state.v1.Stream.Position;

/**
 * The command line.
 *
 * @param address of the state service
 * @param stream to subscribe to; null: list all
 * @param start where to begin
 * @param count after how many updates to end
 */
record Arguments(String address, String stream, StreamStart start, long count) {
  static final String USAGE =
      """
      usage: java -jar theblock-client.jar HOST:PORT list
             java -jar theblock-client.jar HOST:PORT subscribe STREAM [--since EPOCH-SEQ | --last N] [--count N]""";

  /** Reads the command line; null if it is wrong. */
  static Arguments parse(String[] words) {
    if (words.length == 2 && words[1].equals("list")) {
      return new Arguments(words[0], null, null, 0);
    }
    if (words.length < 3 || !words[1].equals("subscribe") || words.length % 2 == 0) {
      return null;
    }
    var start = StreamStart.newBuilder().setStream(words[2]);
    var count = Long.MAX_VALUE;
    try {
      for (int i = 3; i < words.length; i += 2) {
        switch (words[i]) {
          case "--since" -> start.setSince(position(words[i + 1]));
          case "--last" -> start.setLast(Integer.parseUnsignedInt(words[i + 1]));
          case "--count" -> count = Long.parseUnsignedLong(words[i + 1]);
          default -> {
            return null;
          }
        }
      }
    } catch (NumberFormatException | StringIndexOutOfBoundsException error) {
      return null;
    }
    return new Arguments(words[0], words[2], start.build(), count);
  }

  private static Position position(String text) {
    var dash = text.lastIndexOf('-');
    return Position.newBuilder()
        .setEpoch(text.substring(0, dash))
        .setSeq(Long.parseUnsignedLong(text.substring(dash + 1)))
        .build();
  }
}

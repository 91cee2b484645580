package theblock;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import java.util.Locale;
import theblock.state.v1.Stream.Position;
import theblock.state.v1.Stream.StreamInfo;
import theblock.state.v1.UpdateOuterClass.Update;

/** The lines that are printed, each a JSON object. */
final class Output {
  private static final Gson GSON = new GsonBuilder().disableHtmlEscaping().create();

  /** Prints an update; {@code snapshot} says that it repeats an earlier one. */
  static void printUpdate(Update update, boolean snapshot) {
    var line = line(update.getStream(), update.getEpoch(), update.getSeq());
    if (!update.getKey().isEmpty()) {
      line.addProperty("key", update.getKey());
    }
    line.addProperty("time_ms", update.getTimeMs());
    if (snapshot) {
      line.addProperty("snapshot", true);
    }
    line.add("data", data(update));
    print(line);
  }

  /** Tells that the updates up to a position will not come, and why. */
  static void printLost(String stream, Position at, Enum<?> reason) {
    var line = line(stream, at.getEpoch(), at.getSeq());
    line.addProperty("reason", shorten(reason));
    print(line);
  }

  /** Prints the description of a stream. */
  static void printStream(StreamInfo info) {
    var line = new JsonObject();
    line.addProperty("stream", info.getStream());
    line.addProperty("type", info.getType());
    line.addProperty("delivery", shorten(info.getDelivery()));
    line.addProperty("keyed", info.getKeyed());
    line.addProperty("epoch", info.getEpoch());
    line.addProperty("oldest", info.getOldest());
    line.addProperty("newest", info.getNewest());
    print(line);
  }

  private static JsonObject line(String stream, String epoch, long seq) {
    var line = new JsonObject();
    line.addProperty("stream", stream);
    line.addProperty("epoch", epoch);
    line.addProperty("seq", seq);
    return line;
  }

  /** Returns the value of an update as JSON: that of a custom stream is JSON already. */
  private static JsonElement data(Update update) {
    if (update.hasCustom()) {
      return JsonParser.parseString(update.getCustom().getJson().toStringUtf8());
    }
    var oneof = Update.getDescriptor().getOneofs().get(0);
    var field = update.getOneofFieldDescriptor(oneof);
    try {
      return field == null
          ? null
          : JsonParser.parseString(JsonFormat.printer().print((Message) update.getField(field)));
    } catch (InvalidProtocolBufferException error) {
      throw new IllegalArgumentException(error);
    }
  }

  private static void print(JsonObject line) {
    System.out.println(GSON.toJson(line));
    System.out.flush();
  }

  /** Returns the name of an enum's value as this program prints it. */
  private static String shorten(Enum<?> value) {
    return value.name().replaceFirst("^(REASON|DELIVERY)_", "").toLowerCase(Locale.ROOT);
  }

  private Output() {}
}

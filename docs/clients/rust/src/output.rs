//! The lines that are printed, each a JSON object.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::pb::{Position, Reason, StreamInfo, Update, update::Data};

/// A line of output; members without a value are left out.
#[derive(Serialize, Default)]
struct Line<'a> {
    stream: &'a str,
    epoch: &'a str,
    seq: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
}

/// Prints an update; `snapshot` says that it repeats an earlier one.
pub fn print_update(update: &Update, snapshot: bool) {
    print(&Line {
        stream: &update.stream,
        epoch: &update.epoch,
        seq: update.seq,
        key: &update.key,
        time_ms: Some(update.time_ms),
        snapshot: snapshot.then_some(true),
        reason: None,
        data: update.data.as_ref().map(json),
    });
}

/// Tells that the updates up to a position will not come, and why.
pub fn print_lost(stream: &str, at: &Position, reason: Reason) {
    let reason = Some(short(reason.as_str_name()));
    print(&Line { stream, epoch: &at.epoch, seq: at.seq, reason, ..Default::default() });
}

/// Prints the description of a stream.
pub fn print_stream(info: &StreamInfo) {
    print(&serde_json::json!({
        "stream": info.stream, "type": info.r#type, "delivery": short(info.delivery().as_str_name()),
        "keyed": info.keyed, "epoch": info.epoch, "oldest": info.oldest, "newest": info.newest,
    }));
}

/// Returns the value of an update as JSON: that of a custom stream is JSON already.
fn json(data: &Data) -> Box<RawValue> {
    let encoded = match data {
        Data::Custom(custom) => String::from_utf8(custom.json.clone()).map(RawValue::from_string),
        Data::Block(block) => Ok(to_raw_value(block)),
        Data::Metrics(metrics) => Ok(to_raw_value(metrics)),
        Data::Network(network) => Ok(to_raw_value(network)),
        Data::Trading(trading) => Ok(to_raw_value(trading)),
        Data::Energy(energy) => Ok(to_raw_value(energy)),
        Data::Account(account) => Ok(to_raw_value(account)),
    };
    encoded.expect("a custom value is UTF-8").expect("a value can be written as JSON")
}

fn print(line: &impl Serialize) {
    println!("{}", serde_json::to_string(line).expect("a line can be written as JSON"));
}

/// Returns the name of an enum's value as this program prints it.
fn short(name: &str) -> String {
    name.split_once('_').map_or(name, |(_, rest)| rest).to_lowercase()
}

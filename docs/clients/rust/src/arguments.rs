//! The command line.

use crate::pb::{Position, stream_start::Start};

pub const USAGE: &str = "usage: theblock-client HOST:PORT list
       theblock-client HOST:PORT subscribe STREAM [--since EPOCH-SEQ | --last N] [--count N]";

pub struct Arguments {
    pub address: String,
    pub command: Command,
}

pub enum Command {
    List,
    Subscribe { stream: String, start: Option<Start>, count: u64 },
}

impl Arguments {
    /// Reads the command line; None if it is wrong.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Option<Self> {
        let address = words.next()?;
        let command = match words.next()?.as_str() {
            "list" => Command::List,
            "subscribe" => parse_subscribe(&mut words)?,
            _ => return None,
        };
        words.next().is_none().then_some(Self { address, command })
    }
}

fn parse_subscribe(words: &mut impl Iterator<Item = String>) -> Option<Command> {
    let stream = words.next()?;
    let (mut start, mut count) = (None, u64::MAX);
    while let Some(option) = words.next() {
        let value = words.next()?;
        match option.as_str() {
            "--since" => {
                let (epoch, seq) = value.rsplit_once('-')?;
                start = Some(Start::Since(Position { epoch: epoch.into(), seq: seq.parse().ok()? }));
            }
            "--last" => start = Some(Start::Last(value.parse().ok()?)),
            "--count" => count = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(Command::Subscribe { stream, start, count })
}

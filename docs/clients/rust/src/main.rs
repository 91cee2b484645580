//! Reads a state service over gRPC, and resumes whenever the connection is lost. How to run it: README.md.

mod arguments;
mod output;

use std::{process::ExitCode, time::Duration};

use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use arguments::{Arguments, Command};
use pb::{
    ListStreamsRequest, Position, Reason, StreamStart, SubscribeRequest, SubscribeResponse, Update,
    state_stream_service_client::StateStreamServiceClient, stream_start::Start,
};

/// The messages and the client, which build.rs makes of the proto files.
#[allow(dead_code)] // not all of them are needed here
mod pb {
    tonic::include_proto!("theblock.state.v1");
    include!(concat!(env!("OUT_DIR"), "/theblock.state.v1.serde.rs"));
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A single update may be larger than the usual 4 MiB.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Answers that will be the same however often one asks.
const FINAL: [Code; 4] = [Code::InvalidArgument, Code::PermissionDenied, Code::Unauthenticated, Code::Unimplemented];

type Service = StateStreamServiceClient<Channel>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(arguments) = Arguments::parse(std::env::args().skip(1)) else {
        eprintln!("{}", arguments::USAGE);
        return ExitCode::from(2);
    };
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(status) => {
            eprintln!("{}", status.message());
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Status> {
    let endpoint = Endpoint::from_shared(format!("http://{}", arguments.address))
        .map_err(|error| Status::invalid_argument(error.to_string()))?
        .connect_timeout(Duration::from_secs(5))
        // So that a connection that died without a word is noticed.
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true);
    // Connects by itself, and anew after a connection was lost.
    let service = Service::new(endpoint.connect_lazy()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    match arguments.command {
        Command::List => list(service).await,
        Command::Subscribe { stream, start, count } => {
            let subscription = Subscription { stream, start, left: count, position: None, begins: None };
            subscribe(service, subscription).await
        }
    }
}

/// Prints every stream.
async fn list(mut service: Service) -> Result<(), Status> {
    let mut request = tonic::Request::new(ListStreamsRequest {});
    request.set_timeout(Duration::from_secs(10));
    for info in service.list_streams(request).await?.into_inner().streams {
        output::print_stream(&info);
    }
    Ok(())
}

/// Prints updates, over as many connections as it takes.
async fn subscribe(mut service: Service, mut subscription: Subscription) -> Result<(), Status> {
    let mut pause = FIRST_PAUSE;
    while subscription.left > 0 {
        match follow(&mut service, &mut subscription, &mut pause).await {
            Ok(()) if subscription.left == 0 => break,
            Ok(()) => eprintln!("the service ended the subscription"),
            Err(status) if FINAL.contains(&status.code()) => return Err(status),
            Err(status) => eprintln!("connection lost: {}", status.message()),
        }
        // Spread, so that many clients do not come back at once.
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = LONGEST_PAUSE.min(2 * pause);
    }
    Ok(())
}

/// Serves one connection, until it ends or enough has been printed.
async fn follow(service: &mut Service, subscription: &mut Subscription, pause: &mut Duration) -> Result<(), Status> {
    let mut responses = service.subscribe(subscription.request()).await?.into_inner();
    while subscription.left > 0
        && let Some(response) = responses.message().await?
    {
        *pause = FIRST_PAUSE;
        subscription.take(response);
    }
    Ok(())
}

/// What is known of a subscription over all its connections.
struct Subscription {
    stream: String,
    /// Where the first connection begins.
    start: Option<Start>,
    /// Updates still to print.
    left: u64,
    /// Everything up to here has been printed, or was announced as lost.
    position: Option<Position>,
    /// Position that the service has announced, while what belongs to it is still to come.
    begins: Option<Position>,
}

impl Subscription {
    /// The resume rule: ask for what follows the last update that was printed. Only while there is none yet, ask as at
    /// first. The service then sends every update after the position, once and in order, and goes on live.
    fn request(&mut self) -> SubscribeRequest {
        self.begins = None;
        let start = self.position.clone().map(Start::Since).or(self.start.clone());
        let streams = vec![StreamStart { stream: self.stream.clone(), start }];
        SubscribeRequest { streams, ..Default::default() }
    }

    /// Takes a response in; its parts apply in this order.
    fn take(&mut self, response: SubscribeResponse) {
        for started in response.started {
            let reason = started.reason();
            let at = Position { epoch: started.info.unwrap_or_default().epoch, seq: started.seq };
            // The position is worth nothing (Reason::Trimmed comes with a gap): say so, and go on where the stream begins.
            if matches!(reason, Reason::Epoch | Reason::Ahead) {
                output::print_lost(&self.stream, &at, reason);
            }
            self.begins = Some(at);
        }
        for gap in response.gaps {
            let at = Position { epoch: gap.epoch.clone(), seq: gap.to };
            output::print_lost(&self.stream, &at, gap.reason());
            self.begins = Some(at);
        }
        for update in &response.snapshots {
            output::print_update(update, true);
        }
        // Updates or progress come behind everything that a beginning consists of. A connection that is cut before that
        // leaves the position as it was, and the next one asks for the beginning again.
        if !response.updates.is_empty() || !response.progress.is_empty() {
            self.position = self.begins.take().or(self.position.take());
        }
        for update in &response.updates {
            self.take_update(update);
        }
        for at in response.progress.into_iter().filter(|at| at.stream == self.stream) {
            self.position = Some(Position { epoch: at.epoch, seq: at.seq });
        }
    }

    fn take_update(&mut self, update: &Update) {
        let repeated = self.position.as_ref().is_some_and(|at| at.epoch == update.epoch && update.seq <= at.seq);
        if repeated || self.left == 0 {
            return;
        }
        output::print_update(update, false);
        self.position = Some(Position { epoch: update.epoch.clone(), seq: update.seq }); // only now that it is printed
        self.left -= 1;
    }
}

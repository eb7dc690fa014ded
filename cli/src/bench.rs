//! `raftmq bench`: a load generator on this package's client, and probes of the machine.
//!
//! Latencies are honest under overload: with `--rate`, every request has an intended start, and
//! its latency counts from there, whether or not a connection was free at that time. What was
//! never started is reported.
//!
//! Not here: any judgement; the numbers go to whoever asked.

mod disk;
mod echo_server;
mod end_to_end;
mod load;
mod receive;
mod report;
mod send;
mod store;

use bytes::Bytes;
use clap::Args;
use clap::Subcommand;
use futures::future::try_join_all;
use raftmq::client::CallError;
use raftmq::client::Consumer;
use raftmq::client::ConsumerOptions;
use raftmq::client::Producer;
use raftmq::client::ProducerOptions;
use rand::RngCore;

use crate::commands::EndpointArgs;
use crate::exit::Failure;
use crate::output::OutputArgs;

const AFTER_HELP: &str = "\
Examples:
  raftmq topic create bench && raftmq group create bench
  raftmq bench send --seconds 10                        as fast as 256 callers can
  raftmq bench send --rate 20000 --seconds 30           latencies at a given load
  raftmq bench send --topic later --due-in-seconds 20   all due within one second, 20 s from now
  raftmq bench end-to-end --rate 5000 --output json     from send to receive
  raftmq bench receive --group bench                    drain what is there
  raftmq bench disk --dir ./data                        what the disk allows
  raftmq bench store --dir ./data                       what the replicated log allows
  raftmq bench echo-server --listen 127.0.0.1:9081 &    what the network stack allows
  raftmq bench send --endpoint 127.0.0.1:9081

Percentiles are in microseconds. cpu_s is the processor time of this process alone.";

/// Measure a server, or the machine it runs on.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct BenchArgs {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    endpoint: EndpointArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Subcommand)]
enum Verb {
    /// Send messages and measure how long the acknowledgement takes
    Send(send::SendArgs),
    /// Receive and acknowledge what a topic holds, until it is drained
    Receive(receive::ReceiveArgs),
    /// Send and receive, and measure from the (intended) send to the receipt
    EndToEnd(end_to_end::EndToEndArgs),
    /// Answer sends with OK and store nothing: the ceiling of the network stack
    EchoServer(echo_server::EchoArgs),
    /// Measure how long the disk takes to make an append durable
    Disk(disk::DiskArgs),
    /// Measure the replicated log by itself, on one node: no clients, no topics
    Store(store::StoreArgs),
}

pub async fn run(args: BenchArgs) -> Result<(), Failure> {
    let (endpoint, output) = (&args.endpoint, args.output);
    match args.verb {
        Verb::Send(load) => Box::pin(send::run(load, endpoint, output)).await,
        Verb::Receive(receive) => Box::pin(receive::run(receive, endpoint, output)).await,
        Verb::EndToEnd(both) => Box::pin(end_to_end::run(both, endpoint, output)).await,
        Verb::EchoServer(echo) => Box::pin(echo_server::run(echo)).await,
        Verb::Disk(disk) => disk::run(disk, output).await,
        Verb::Store(store) => store::run(store, output).await,
    }
}

/// What to send, and how hard.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// The topic
    #[arg(long, default_value = "bench")]
    topic: String,

    /// Size of each message's body
    #[arg(long, default_value_t = 1024, value_name = "BYTES",
          value_parser = clap::value_parser!(u32).range(1..=4 << 20))]
    body_bytes: u32,

    /// Requests under way at the same time
    #[arg(long, default_value_t = 256, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    concurrency: u32,

    /// Connections to each broker, each a client of its own
    #[arg(long, default_value_t = 4, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: u32,

    /// Messages in each request
    #[arg(long, default_value_t = 1, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=1_024))]
    messages_per_request: u32,

    /// Messages per second to offer; 0: each caller sends again as soon as it has its answer
    #[arg(long, default_value_t = 0.0, value_name = "PER SECOND")]
    rate: f64,

    /// How long to measure
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,

    /// How long to send before that
    #[arg(long, default_value_t = 1.0)]
    warmup_seconds: f64,
}

impl LoadArgs {
    fn plan(&self) -> Result<load::Plan, Failure> {
        let requests_per_s = self.rate / f64::from(self.messages_per_request);
        load::Plan::new(self.concurrency, requests_per_s, self.warmup_seconds, self.seconds)
    }

    async fn producers(&self, endpoint: &EndpointArgs) -> Result<Vec<Producer>, CallError> {
        let options = ProducerOptions::new(endpoint.endpoints(), &self.topic);
        try_join_all((0..self.connections).map(|_| Producer::start(options.clone()))).await
    }
}

async fn consumers(
    endpoint: &EndpointArgs,
    topic: &str,
    group: &str,
    connections: u32,
) -> Result<Vec<Consumer>, CallError> {
    let options = ConsumerOptions::new(endpoint.endpoints(), topic, group);
    try_join_all((0..connections).map(|_| Consumer::start(options.clone()))).await
}

/// Nothing that could be compressed.
fn random_body(len: u32) -> Bytes {
    let mut body = vec![0; len as usize];
    rand::rng().fill_bytes(&mut body);
    Bytes::from(body)
}

/// A short name to count an error under.
fn cause(error: &CallError) -> &'static str {
    match error {
        CallError::NoAddress | CallError::Address { .. } => "address",
        CallError::Connect { .. } => "connect",
        CallError::Timeout { .. } => "timeout",
        CallError::Broken { .. } => "broken",
        CallError::Malformed { .. } => "malformed",
        CallError::Refused { code, .. } => code.as_str_name(),
    }
}

//! `raftmq message recall`.

use clap::Args;
use raftmq::client::Producer;
use raftmq::client::ProducerOptions;
use serde::Serialize;

use crate::commands::EndpointArgs;
use crate::exit::Failure;
use crate::output::OutputArgs;

#[derive(Args)]
pub struct RecallArgs {
    /// The topic it was sent to
    topic: String,

    /// What `message send` printed
    handle: String,

    #[command(flatten)]
    endpoint: EndpointArgs,
}

pub async fn run(args: RecallArgs, output: OutputArgs) -> Result<(), Failure> {
    let options = ProducerOptions::new(args.endpoint.endpoints(), args.topic);
    let producer = Producer::start(options).await?;
    let message_id = producer.recall(&args.handle).await?;
    producer.close().await;
    output.print(&Recalled { message_id }, |recalled| {
        format!("message {} will not be received", recalled.message_id)
    })
}

#[derive(Serialize)]
struct Recalled {
    message_id: String,
}

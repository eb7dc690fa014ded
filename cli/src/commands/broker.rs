//! `raftmq broker`.

use clap::Args;
use raftmq_broker::Broker;

use crate::config::BrokerKeys;
use crate::config::ConfigArgs;
use crate::config::broker_to_file;
use crate::exit::Failure;
use crate::output;
use crate::recorder;
use crate::stop;

const AFTER_HELP: &str = "\
A group of three, on each machine with its own node_id, client_advertise and data_dir:
  raftmq broker --node-id 1 --client-listen 0.0.0.0:8081 --client-advertise broker-1:8081 \\
    --peer-listen 0.0.0.0:8082 --name-servers namesrv-1:8081,namesrv-2:8081 \\
    --members 1=broker-1:8082,2=broker-2:8082,3=broker-3:8082

Every key is a flag, an environment variable, and a line of the file, with _ for -:
  RAFTMQ_NODE_ID=1 raftmq broker --config broker.toml
Flags win over variables, variables over the file. See the result with --print-config.";

/// Run one node of a broker group.
///
/// SIGTERM hands leadership to another node before the process ends.
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct BrokerArgs {
    #[command(flatten)]
    from: ConfigArgs,
    #[command(flatten)]
    keys: BrokerKeys,
}

pub async fn run(args: BrokerArgs) -> Result<(), Failure> {
    let config = args.keys.with_file(&args.from)?.into_config()?;
    if args.from.print_config {
        return output::print(&broker_to_file(&config)?);
    }
    let stop = stop::requested()?;
    let name = config.broker_name();
    let broker = Broker::start(config, recorder::install()?)
        .await
        .map_err(|error| Failure::failed(format!("could not start {name}: {error}")))?;
    tokio::select! {
        () = stop => {
            broker.shutdown().await;
            Ok(())
        }
        error = broker.failed() => raftmq_broker::end_process(&format!("{name} ended: {error}")),
    }
}

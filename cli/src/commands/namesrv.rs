//! `raftmq namesrv`.

use clap::Args;
use raftmq_namesrv::NameServer;
use raftmq_namesrv::StartError;

use crate::config::ConfigArgs;
use crate::config::NamesrvKeys;
use crate::config::namesrv_to_file;
use crate::exit::Failure;
use crate::output;
use crate::recorder;
use crate::stop;

const AFTER_HELP: &str = "\
Every key is a flag, an environment variable, and a line of the file, with _ for -:
  raftmq namesrv --listen 0.0.0.0:8081
  RAFTMQ_LISTEN=0.0.0.0:8081 raftmq namesrv
  echo 'listen = \"0.0.0.0:8081\"' > namesrv.toml && raftmq namesrv --config namesrv.toml
Flags win over variables, variables over the file. See the result with --print-config.";

/// Run a name server: it keeps the routes that brokers report, in memory only.
///
/// Run two or three, independent of each other; brokers report to all of them.
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct NamesrvArgs {
    #[command(flatten)]
    from: ConfigArgs,
    #[command(flatten)]
    keys: NamesrvKeys,
}

pub async fn run(args: NamesrvArgs) -> Result<(), Failure> {
    let config = args.keys.with_file(&args.from)?.into_config()?;
    if args.from.print_config {
        return output::print(&namesrv_to_file(&config)?);
    }
    let stop = stop::requested()?;
    let server = NameServer::start(config, recorder::install()?).await?;
    stop.await;
    server.shutdown().await;
    Ok(())
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let in_use = matches!(
            &error,
            StartError::Bind { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse
        );
        let failure = Failure::failed(error);
        match in_use {
            true => failure.hint("is another raftmq running? Stop it, or choose other ports"),
            false => failure,
        }
    }
}

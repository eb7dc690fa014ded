//! `raftmq dev`: everything in one process on one machine.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use clap::ArgAction;
use clap::Args;
use futures::future::join_all;
use futures::future::select_all;
use futures::future::try_join_all;
use raftmq_broker::Broker;
use raftmq_broker::Config;
use raftmq_broker::Member;
use raftmq_namesrv::NameServer;

use crate::exit::Failure;
use crate::output;
use crate::recorder;
use crate::stop;

const HOST: &str = "127.0.0.1";

const AFTER_HELP: &str = "\
Ports, with --port 8081:
  8081               clients: give this one to your program
  8080               metrics and probes of the name server
  8181, 8281, 8381   clients, node 1, 2, 3; the next three ports of each are
                     for its peers, for operators (--admin), for metrics and probes

Ctrl-C stops in order; starting again with the same --data-dir finds everything as it was.";

/// Run a name server and a broker group in one process, for development and tests.
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct DevArgs {
    /// Directory for everything durable, made when it is missing
    #[arg(long, default_value = "./data", value_name = "DIR")]
    data_dir: PathBuf,

    /// Brokers in the group; 1, 3 or 5 make sense
    #[arg(long, default_value_t = 3, value_name = "COUNT",
          value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: u64,

    /// Client port of the name server, from which all others are counted
    #[arg(long, default_value_t = 8081, value_name = "PORT",
          value_parser = clap::value_parser!(u16).range(2..=64_000))]
    port: u16,

    /// Make topics that do not exist when they are first asked for
    #[arg(long, default_value_t = true, value_name = "BOOL", num_args = 0..=1,
          require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    auto_create_topics: bool,

    /// Make consumer groups that do not exist when they are first asked for
    #[arg(long, default_value_t = true, value_name = "BOOL", num_args = 0..=1,
          require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    auto_create_groups: bool,
}

pub async fn run(args: DevArgs) -> Result<(), Failure> {
    let stop = stop::requested()?;
    prepare(&args.data_dir, args.nodes)?;
    let metrics = recorder::install()?;
    let config = raftmq_namesrv::Config {
        listen: address(args.port),
        http_listen: address(args.port - 1),
        ..raftmq_namesrv::Config::default()
    };
    let name_server = NameServer::start(config, metrics.clone()).await?;
    let start = |node_id| {
        let (config, metrics) = (node(&args, node_id), metrics.clone());
        async move {
            Broker::start(config, metrics).await.map_err(|error| {
                Failure::failed(format!("could not start node {node_id}: {error}"))
            })
        }
    };
    let brokers = try_join_all((1..=args.nodes).map(start)).await?;

    let ended = tokio::select! {
        () = stop => Ok(()),
        ended = serve(&args, &brokers) => ended,
    };
    // All at once: a leader that hands over to a node which is stopping too loses nothing.
    join_all(brokers.into_iter().map(Broker::stop)).await;
    name_server.shutdown().await;
    ended
}

/// Says hello once the group has a leader, then waits for a node that ends by itself.
async fn serve(args: &DevArgs, brokers: &[Broker]) -> Result<(), Failure> {
    let failed = select_all(brokers.iter().map(|broker| Box::pin(broker.failed())));
    let greeted = async {
        join_all(brokers.iter().map(Broker::ready)).await;
        output::print(&greeting(args))?;
        std::future::pending().await
    };
    tokio::select! {
        greeted = greeted => greeted,
        (error, index, _) = failed => {
            raftmq_broker::end_process(&format!("node {} ended: {error}", index + 1))
        }
    }
}

/// Makes the directory; refuses one that was made with another number of nodes, as the group
/// remembers its members.
fn prepare(data_dir: &Path, nodes: u64) -> Result<(), Failure> {
    let unusable = |error: io::Error| {
        Failure::failed(format!("could not use {}: {error}", data_dir.display()))
    };
    fs::create_dir_all(data_dir).map_err(unusable)?;
    let mut found = 0;
    for entry in fs::read_dir(data_dir).map_err(unusable)? {
        let name = entry.map_err(unusable)?.file_name();
        found += u64::from(name.to_string_lossy().starts_with("node-"));
    }
    if found != 0 && found != nodes {
        let message = format!("{} belongs to a group of {found} nodes", data_dir.display());
        let hint = format!("use --nodes {found}, or another --data-dir");
        return Err(Failure::usage(message).hint(hint));
    }
    Ok(())
}

fn node(args: &DevArgs, node_id: u64) -> Config {
    let port = |node_id: u64| args.port + 100 * node_id as u16;
    let member = |node_id| Member { node_id, peer_address: address(port(node_id) + 1) };
    let client = port(node_id);
    Config {
        node_id,
        members: (1..=args.nodes).map(member).collect(),
        client_listen: address(client),
        client_advertise: address(client),
        peer_listen: address(client + 1),
        admin_listen: address(client + 2),
        http_listen: address(client + 3),
        name_servers: vec![address(args.port)],
        auto_create_topics: args.auto_create_topics,
        auto_create_groups: args.auto_create_groups,
        ..Config::single(args.data_dir.join(format!("node-{node_id}")))
    }
}

fn address(port: u16) -> String {
    format!("{HOST}:{port}")
}

fn greeting(args: &DevArgs) -> String {
    let nodes = match args.nodes {
        1 => "1 node".to_owned(),
        nodes => format!("{nodes} nodes"),
    };
    // The defaults of the commands fit the default port.
    let (admin, endpoint) = match args.port {
        8081 => (String::new(), String::new()),
        port => (format!(" --admin {HOST}:{}", port + 102), format!(" --endpoint {HOST}:{port}")),
    };
    format!(
        "\
RaftMQ is ready: {nodes}, data in {data_dir}
  endpoint for RocketMQ 5 clients   {HOST}:{port} (plaintext and TLS)
  metrics                           http://{HOST}:{http}/metrics

Next, in another terminal:
  raftmq topic create demo{admin}
  raftmq message send demo 'hello'{endpoint}

Ctrl-C stops it; everything is kept.
",
        data_dir = args.data_dir.display(),
        port = args.port,
        http = args.port + 103,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(nodes: u64, port: u16) -> DevArgs {
        DevArgs {
            data_dir: "data".into(),
            nodes,
            port,
            auto_create_topics: true,
            auto_create_groups: false,
        }
    }

    #[test]
    fn ports_are_those_of_the_documentation() {
        let second = node(&args(3, 8081), 2);
        assert_eq!(second.client_listen, "127.0.0.1:8281");
        assert_eq!(second.peer_listen, "127.0.0.1:8282");
        assert_eq!(second.admin_listen, "127.0.0.1:8283");
        assert_eq!(second.http_listen, "127.0.0.1:8284");
        assert_eq!(second.members.len(), 3);
        assert_eq!(second.members[1].peer_address, second.peer_listen);
        assert_eq!(second.data_dir, Path::new("data/node-2"));
        assert!(second.auto_create_topics && !second.auto_create_groups);
        node(&args(9, 64_000), 9);
    }

    #[test]
    fn commands_name_the_ports_when_they_are_unusual() {
        assert!(greeting(&args(3, 8081)).contains("raftmq topic create demo\n"));
        let greeting = greeting(&args(3, 9081));
        assert!(greeting.contains("topic create demo --admin 127.0.0.1:9183\n"), "{greeting}");
        assert!(greeting.contains("--endpoint 127.0.0.1:9081\n"), "{greeting}");
    }

    #[test]
    fn a_directory_of_another_group_size_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("new");
        prepare(&data, 3).unwrap();
        for node_id in 1..=3 {
            fs::create_dir(data.join(format!("node-{node_id}"))).unwrap();
        }
        prepare(&data, 3).unwrap();
        let failure = prepare(&data, 1).unwrap_err().to_string();
        assert!(failure.contains("--nodes 3"), "{failure}");
    }
}

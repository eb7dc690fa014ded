//! The servers of Apache RocketMQ: fetched as they were released, and started.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::paths;
use crate::process::Process;

/// The servers that a group consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Keeps routes; here with a controller inside.
    NameServer,
    /// Keeps messages.
    Broker,
    /// Speaks gRPC with clients.
    Proxy,
}

impl Kind {
    fn main_class(self) -> &'static str {
        match self {
            Self::NameServer => "org.apache.rocketmq.namesrv.NamesrvStartup",
            Self::Broker => "org.apache.rocketmq.broker.BrokerStartup",
            Self::Proxy => "org.apache.rocketmq.proxy.ProxyStartup",
        }
    }

    fn heap(self) -> [&'static str; 2] {
        match self {
            Self::NameServer => ["-Xms128m", "-Xmx256m"],
            Self::Broker | Self::Proxy => ["-Xms512m", "-Xmx512m"],
        }
    }

    fn file_option(self) -> &'static str {
        match self {
            Self::NameServer | Self::Broker => "-c",
            Self::Proxy => "-pc",
        }
    }
}

/// What every server is started with, besides its heap. Released scripts ask for 8 GiB of heap in
/// each broker, which a machine that has all servers has not.
pub const JAVA_OPTIONS: [&str; 5] = [
    "-XX:+UseSerialGC",
    "-XX:MaxDirectMemorySize=1g",
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
];

/// The released servers, in the target directory.
#[derive(Clone, Debug)]
pub struct Servers {
    library: PathBuf,
    /// Their version.
    pub version: String,
}

impl Servers {
    /// Fetches them. Quick when they are there.
    pub fn fetch() -> anyhow::Result<Self> {
        let out = paths::target()?.join("rocketmq-servers");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("rocketmq/build.sh");
        let fetched = Command::new(script).env("SERVERS_OUT", &out).output();
        let fetched = fetched.context("could not run rocketmq/build.sh")?;
        ensure!(
            fetched.status.success(),
            "could not fetch Apache RocketMQ\n{}",
            String::from_utf8_lossy(&fetched.stderr)
        );
        let library = out.join("lib");
        let names = std::fs::read_dir(&library)?.filter_map(Result::ok).map(|it| it.file_name());
        let version = names.filter_map(|name| version(name.to_str()?)).next();
        Ok(Self { library, version: version.context("there is no broker among what was fetched")? })
    }

    /// Starts one, with everything it writes in `data` and what it prints in `directory`.
    pub fn start(
        &self,
        kind: Kind,
        name: &str,
        directory: &Path,
        data: &Path,
        file: &Path,
    ) -> anyhow::Result<Process> {
        let home = data.join("home");
        std::fs::create_dir_all(&home)?;
        let mut command = Command::new("java");
        command
            .args(kind.heap())
            .args(JAVA_OPTIONS)
            // Where logs go.
            .arg(format!("-Duser.home={}", home.display()))
            .arg("-cp")
            .arg(self.library.join("*"))
            .arg(kind.main_class())
            .arg(kind.file_option())
            .arg(file)
            .env("ROCKETMQ_HOME", &home)
            .env_remove("NAMESRV_ADDR");
        Process::start(name, directory, command)
    }
}

fn version(jar: &str) -> Option<String> {
    Some(jar.strip_prefix("rocketmq-broker-")?.strip_suffix(".jar")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_broker() {
        assert_eq!(version("rocketmq-broker-5.5.0.jar").as_deref(), Some("5.5.0"));
        assert_eq!(version("rocketmq-common-5.5.0.jar"), None);
    }
}

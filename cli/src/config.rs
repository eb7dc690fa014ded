//! Configuration of servers: one TOML file, every key also an environment variable and a flag.
//!
//! The last in this order wins: default, file, environment variable, flag. The keys of a server are
//! one struct of optional fields, which `clap` fills from flags and variables and `serde` from the
//! file; unknown keys in the file are errors. Units are part of the names: `_ms`, `_bytes`.

mod broker;
mod namesrv;

use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use clap::ValueEnum;
use raftmq_listener::Tls;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::exit::Failure;

pub use broker::BrokerKeys;
pub use broker::to_file as broker_to_file;
pub use namesrv::NamesrvKeys;
pub use namesrv::to_file as namesrv_to_file;

/// Where the keys come from, and whether to show what came of it.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigArgs {
    /// TOML file with the keys below
    #[arg(long, env = "RAFTMQ_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print the resulting configuration as TOML and exit
    #[arg(long)]
    pub print_config: bool,
}

/// What the client port does about TLS.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// Plaintext only
    Off,
    /// A certificate made at start; plaintext works as well
    SelfSigned,
    /// tls_certificate and tls_key; plaintext works as well
    Files,
}

/// Takes each field from the first struct where it is set. Lists every field, so that a new one
/// can not be forgotten.
macro_rules! first_set {
    ($first:expr, $second:expr; $($field:ident),+ $(,)?) => {
        Self { $($field: $first.$field.or($second.$field)),+ }
    };
}
use first_set;

/// Reads the keys in a file; none without a file.
fn read_file<T: DeserializeOwned + Default>(path: Option<&Path>) -> Result<T, Failure> {
    let Some(path) = path else { return Ok(T::default()) };
    let unreadable = |error| Failure::usage(format!("could not read {}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    toml::from_str(&text)
        .map_err(|error| Failure::usage(format!("{} is wrong:\n{error}", path.display())))
}

/// The keys as a file that gives the same configuration.
fn to_toml<T: Serialize>(keys: &T) -> Result<String, Failure> {
    toml::to_string(keys).map_err(Failure::failed)
}

fn tls(
    mode: Option<TlsMode>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Tls, Failure> {
    match (mode.unwrap_or(TlsMode::SelfSigned), certificate, key) {
        (TlsMode::Files, Some(certificate), Some(key)) => Ok(Tls::Files { certificate, key }),
        (TlsMode::Files, _, _) => {
            Err(Failure::usage("tls = \"files\" needs tls_certificate and tls_key"))
        }
        (_, Some(_), _) | (_, _, Some(_)) => {
            Err(Failure::usage("tls_certificate and tls_key need tls = \"files\""))
        }
        (TlsMode::Off, None, None) => Ok(Tls::Off),
        (TlsMode::SelfSigned, None, None) => Ok(Tls::SelfSigned),
    }
}

/// The keys that stand for `tls`.
fn tls_keys(tls: &Tls) -> (TlsMode, Option<PathBuf>, Option<PathBuf>) {
    match tls {
        Tls::Off => (TlsMode::Off, None, None),
        Tls::SelfSigned => (TlsMode::SelfSigned, None, None),
        Tls::Files { certificate, key } => {
            (TlsMode::Files, Some(certificate.clone()), Some(key.clone()))
        }
    }
}

/// The host in `host:port`, or a failure that names the key.
fn host<'a>(key: &str, address: &'a str) -> Result<&'a str, Failure> {
    match address.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && !host.is_empty() => Ok(host),
        _ => Err(Failure::usage(format!("{key} is {address:?}, write host:port"))),
    }
}

/// Whether a host stands for every address of the machine, which nobody can connect to.
fn is_wildcard(host: &str) -> bool {
    matches!(host, "0.0.0.0" | "[::]" | "::")
}

/// Drops what an empty environment variable or a trailing comma leaves behind.
fn without_blanks(list: Vec<String>) -> Vec<String> {
    list.into_iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}

/// Every key has a flag, an environment variable and a default in its help that is the real one.
#[cfg(test)]
fn assert_documented<K: Args>(defaults_toml: &str) {
    let command = K::augment_args(clap::Command::new("keys"));
    let defaults: toml::Table = toml::from_str(defaults_toml).unwrap();
    for argument in command.get_arguments() {
        let key = argument.get_id().as_str();
        assert_eq!(argument.get_long(), Some(&*key.replace('_', "-")));
        let variable = format!("RAFTMQ_{}", key.to_uppercase());
        assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(&*variable));
        let help = argument.get_help().unwrap().to_string();
        let documented = match defaults.get(key) {
            Some(toml::Value::String(text)) => format!("[default: {text}]"),
            Some(toml::Value::Array(list)) if list.is_empty() => "[default: none]".to_owned(),
            Some(toml::Value::Array(_)) | None => "[default: ".to_owned(),
            Some(value) => format!("[default: {value}]"),
        };
        assert!(help.contains(&documented), "{key}: {documented} is not in {help:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_files_come_in_pairs_and_only_with_their_mode() {
        let file = || Some(PathBuf::from("x.pem"));
        assert_eq!(tls(None, None, None).unwrap(), Tls::SelfSigned);
        assert_eq!(tls(Some(TlsMode::Off), None, None).unwrap(), Tls::Off);
        assert!(matches!(tls(Some(TlsMode::Files), file(), file()), Ok(Tls::Files { .. })));
        assert!(tls(Some(TlsMode::Files), file(), None).is_err());
        assert!(tls(None, file(), file()).is_err());
        assert!(tls(Some(TlsMode::Off), None, file()).is_err());
    }

    #[test]
    fn hosts_are_told_from_ports() {
        assert_eq!(host("listen", "0.0.0.0:8081").unwrap(), "0.0.0.0");
        assert_eq!(host("listen", "[::]:1").unwrap(), "[::]");
        for wrong in ["", "8081", ":8081", "host", "host:", "host:70000"] {
            assert!(host("listen", wrong).is_err(), "{wrong}");
        }
    }
}

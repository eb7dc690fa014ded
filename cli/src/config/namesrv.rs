//! The keys of a name server.

use std::path::PathBuf;

use clap::Args;
use raftmq_namesrv::Config;
use serde::Deserialize;
use serde::Serialize;

use super::ConfigArgs;
use super::TlsMode;
use super::first_set;
use super::host;
use super::is_wildcard;
use super::read_file;
use super::tls;
use super::to_toml;
use super::without_blanks;
use crate::exit::Failure;

/// What a name server can be told. All unset is a name server on loopback.
#[derive(Args, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NamesrvKeys {
    /// Where clients ask for routes and brokers register [default: 127.0.0.1:8081]
    #[arg(long, env = "RAFTMQ_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,

    /// Where metrics and probes are served [default: 127.0.0.1:8080]
    #[arg(long, env = "RAFTMQ_HTTP_LISTEN", value_name = "HOST:PORT")]
    pub http_listen: Option<String>,

    /// What the client port does about TLS [default: self-signed]
    #[arg(long, env = "RAFTMQ_TLS", value_enum, value_name = "MODE")]
    pub tls: Option<TlsMode>,

    /// PEM file with the certificate chain [default: none]
    #[arg(long, env = "RAFTMQ_TLS_CERTIFICATE", value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,

    /// PEM file with the private key [default: none]
    #[arg(long, env = "RAFTMQ_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Names in a self-signed certificate [default: localhost and the host of listen]
    #[arg(long, env = "RAFTMQ_TLS_NAMES", value_name = "NAME", value_delimiter = ',')]
    pub tls_names: Option<Vec<String>>,
}

impl NamesrvKeys {
    /// These keys over those in the file.
    pub fn with_file(self, from: &ConfigArgs) -> Result<Self, Failure> {
        let file: Self = read_file(from.config.as_deref())?;
        Ok(first_set!(self, file; listen, http_listen, tls, tls_certificate, tls_key, tls_names))
    }

    /// Fills in the defaults and checks what can be checked without starting.
    pub fn into_config(self) -> Result<Config, Failure> {
        let defaults = Config::default();
        let listen = self.listen.unwrap_or(defaults.listen);
        let http_listen = self.http_listen.unwrap_or(defaults.http_listen);
        host("http_listen", &http_listen)?;
        let own_host = host("listen", &listen)?;
        let mut own_names = vec!["localhost".to_owned()];
        if !is_wildcard(own_host) {
            own_names.push(own_host.trim_matches(['[', ']']).to_owned());
        }
        let tls_names = self.tls_names.map_or(own_names, without_blanks);
        let tls = tls(self.tls, self.tls_certificate, self.tls_key)?;
        Ok(Config { listen, http_listen, tls, tls_names })
    }
}

/// The configuration as TOML, every key spelled out.
pub fn to_file(config: &Config) -> Result<String, Failure> {
    let (mode, certificate, key) = super::tls_keys(&config.tls);
    to_toml(&NamesrvKeys {
        listen: Some(config.listen.clone()),
        http_listen: Some(config.http_listen.clone()),
        tls: Some(mode),
        tls_certificate: certificate,
        tls_key: key,
        tls_names: Some(config.tls_names.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_keys_give_the_documented_defaults() {
        let config = NamesrvKeys::default().into_config().unwrap();
        assert_eq!(config, Config::default());
        super::super::assert_documented::<NamesrvKeys>(&to_file(&config).unwrap());
    }

    #[test]
    fn what_is_printed_gives_the_same_configuration() {
        let keys = NamesrvKeys {
            listen: Some("0.0.0.0:9876".to_owned()),
            tls: Some(TlsMode::Files),
            tls_certificate: Some("cert.pem".into()),
            tls_key: Some("key.pem".into()),
            ..NamesrvKeys::default()
        };
        let config = keys.into_config().unwrap();
        let printed: NamesrvKeys = toml::from_str(&to_file(&config).unwrap()).unwrap();
        assert_eq!(printed.into_config().unwrap(), config);
    }
}

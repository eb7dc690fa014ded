//! Real sockets against a real port that serves gRPC health.

#![allow(clippy::unwrap_used, reason = "a test that can not go on has failed")]

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use raftmq_listener::Limits;
use raftmq_listener::Listener;
use raftmq_listener::Tls;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tonic::transport::Channel;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::service_fn;

/// Long enough for a loaded machine; no passing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn plaintext_and_tls_share_the_port() {
    let (tls, certificate, _files) = certificate_files();
    let port = serve(tls, Limits::default()).await;
    check_health(plaintext(port)).await.unwrap();
    check_health(encrypted(port, &certificate)).await.unwrap();
}

#[tokio::test]
async fn a_tls_client_is_refused_at_once_where_tls_is_off() {
    let (_, certificate, _files) = certificate_files();
    let port = serve(Tls::Off, Limits::default()).await;
    check_health(encrypted(port, &certificate)).await.unwrap_err();
    check_health(plaintext(port)).await.unwrap();
}

#[tokio::test]
async fn silent_clients_do_not_keep_others_waiting_and_are_closed() {
    let limits = Limits { handshake_timeout: Duration::from_millis(300), ..Limits::default() };
    let (tls, certificate, _files) = certificate_files();
    let port = serve(tls, limits).await;

    let mut silent = Vec::new();
    for opening in [&b""[..], b"PRI * HT", b"\x16\x03\x01"] {
        let mut stream = TcpStream::connect(port).await.unwrap();
        stream.write_all(opening).await.unwrap();
        silent.push(stream);
    }
    check_health(plaintext(port)).await.unwrap();
    check_health(encrypted(port, &certificate)).await.unwrap();
    for stream in silent {
        assert_closed(stream).await;
    }
}

#[tokio::test]
async fn garbage_is_closed_without_waiting_for_more() {
    let (tls, _, _files) = certificate_files();
    let port = serve(tls, Limits::default()).await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0\0\0\0", b"\x16\x03\x01\0\x04\xff\0\0\0"] {
        let mut stream = TcpStream::connect(port).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        assert_closed(stream).await;
    }
    check_health(plaintext(port)).await.unwrap();
}

#[tokio::test]
async fn a_full_port_refuses_and_takes_clients_again_once_there_is_room() {
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let port = serve(Tls::Off, limits).await;
    let holder = TcpStream::connect(port).await.unwrap();
    assert_closed(TcpStream::connect(port).await.unwrap()).await;
    drop(holder);
    wait_for_health(port).await;
}

#[tokio::test]
async fn silent_clients_are_bounded_in_number() {
    let limits = Limits { handshakes_max: 2, ..Limits::default() };
    let port = serve(Tls::Off, limits).await;
    let first = TcpStream::connect(port).await.unwrap();
    let _second = TcpStream::connect(port).await.unwrap();
    assert_closed(TcpStream::connect(port).await.unwrap()).await;
    drop(first);
    wait_for_health(port).await;
}

#[tokio::test]
async fn dropping_the_stream_closes_the_port() {
    let listener = Listener::bind("127.0.0.1:0", None).await.unwrap();
    let port = listener.local_addr().unwrap();
    drop(listener.into_incoming());
    let closed = async {
        while TcpStream::connect(port).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
}

async fn serve(tls: Tls, limits: Limits) -> SocketAddr {
    let config = tls.server_config(&[]).unwrap();
    let listener = Listener::bind("127.0.0.1:0", config).await.unwrap().limits(limits);
    let port = listener.local_addr().unwrap();
    let (_, health) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder().add_service(health);
    tokio::spawn(server.serve_with_incoming(listener.into_incoming()));
    port
}

fn plaintext(port: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{port}")).unwrap().connect_lazy()
}

fn encrypted(port: SocketAddr, certificate: &Path) -> Channel {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let connect = service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
            let tcp = TcpStream::connect(port).await?;
            connector.connect(name, tcp).await.map(TokioIo::new)
        }
    });
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connect)
}

async fn check_health(channel: Channel) -> Result<(), tonic::Status> {
    let request = HealthCheckRequest { service: String::new() };
    let call = async move { HealthClient::new(channel).check(request).await };
    tokio::time::timeout(PATIENCE, call).await.unwrap().map(drop)
}

async fn wait_for_health(port: SocketAddr) {
    let served = async {
        while check_health(plaintext(port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, served).await.unwrap();
}

/// An alert or a reset is as good as an end.
async fn assert_closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    let _end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.len() < 64, "unexpected answer: {rest:?}");
}

/// A certificate for localhost in files that live as long as the last returned value.
fn certificate_files() -> (Tls, PathBuf, tempfile::TempDir) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let certificate = dir.path().join("cert.pem");
    let key = dir.path().join("key.pem");
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (Tls::Files { certificate: certificate.clone(), key }, certificate, dir)
}

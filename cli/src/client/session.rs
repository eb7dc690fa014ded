//! The telemetry stream to one broker: settings out, settings back, then kept open.
//!
//! Invariant: the stream is open as long as [`Session::is_alive`] says so; a broker that has ended
//! it, or asks to be connected to anew, is greeted again before the next call.
//!
//! Not here: checks of transactions and messages, which this client does not do.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use raftmq_proto::v2::ClientType;
use raftmq_proto::v2::Code;
use raftmq_proto::v2::HeartbeatRequest;
use raftmq_proto::v2::Resource;
use raftmq_proto::v2::Settings;
use raftmq_proto::v2::Status;
use raftmq_proto::v2::TelemetryCommand;
use raftmq_proto::v2::messaging_service_client::MessagingServiceClient;
use raftmq_proto::v2::settings::PubSub;
use raftmq_proto::v2::telemetry_command::Command;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use tracing::debug;

use super::CallError;
use super::identity::Identity;

/// How often a server is told that this client lives, as official clients do.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);

/// An open telemetry stream. Dropping it closes the stream.
pub(crate) struct Session {
    granted: Settings,
    alive: Arc<AtomicBool>,
    task: AbortHandle,
}

/// How to reach a broker.
pub(crate) struct Peer<'a> {
    pub(crate) address: &'a str,
    pub(crate) identity: &'a Identity,
    pub(crate) client: MessagingServiceClient<Channel>,
    pub(crate) timeout: Duration,
}

impl Session {
    const RPC: &'static str = "Telemetry";

    /// Opens the stream, sends `settings` and waits for the server's.
    pub(crate) async fn open(peer: Peer<'_>, settings: Settings) -> Result<Self, CallError> {
        let (address, timeout) = (peer.address.to_owned(), peer.timeout);
        match tokio::time::timeout(timeout, Self::exchange(peer, settings)).await {
            Ok(opened) => opened,
            Err(_) => Err(CallError::Timeout { address, rpc: Self::RPC, timeout }),
        }
    }

    /// What the server makes of the settings.
    pub(crate) fn granted(&self) -> &Settings {
        &self.granted
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    async fn exchange(mut peer: Peer<'_>, settings: Settings) -> Result<Self, CallError> {
        let heartbeat = heartbeat(&settings);
        let (commands, outgoing) = mpsc::channel(8);
        let first = TelemetryCommand { status: None, command: Some(Command::Settings(settings)) };
        // The channel is empty and its other end in hand: there is room.
        let _sent = commands.try_send(first);
        // No deadline: the stream lives as long as the client.
        let request = peer.identity.request(ReceiverStream::new(outgoing), None);
        let broken = |status: tonic::Status| {
            CallError::from_grpc(peer.address, Self::RPC, peer.timeout, &status)
        };
        let mut incoming = peer.client.telemetry(request).await.map_err(broken)?.into_inner();
        let granted = loop {
            let command = incoming.message().await.map_err(broken)?;
            match settings_of(peer.address, command)? {
                Some(settings) => break settings,
                None => continue,
            }
        };
        let alive = Arc::new(AtomicBool::new(true));
        let stream = OpenStream {
            incoming,
            commands,
            alive: Arc::clone(&alive),
            identity: peer.identity.clone(),
            client: peer.client,
            heartbeat,
        };
        let task = tokio::spawn(stream.run(peer.timeout)).abort_handle();
        Ok(Self { granted, alive, task })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The settings in the server's answer; `None` for another command that came before it.
fn settings_of(
    address: &str,
    command: Option<TelemetryCommand>,
) -> Result<Option<Settings>, CallError> {
    let Some(TelemetryCommand { status, command }) = command else {
        return Err(CallError::Malformed {
            address: address.to_owned(),
            rpc: Session::RPC,
            problem: "the stream ended without settings".to_owned(),
        });
    };
    if status.is_some() {
        CallError::check(address, Session::RPC, status)?;
    }
    match command {
        Some(Command::Settings(settings)) => Ok(Some(settings)),
        _ => Ok(None),
    }
}

fn heartbeat(settings: &Settings) -> HeartbeatRequest {
    let group: Option<Resource> = match &settings.pub_sub {
        Some(PubSub::Subscription(subscription)) => subscription.group.clone(),
        Some(PubSub::Publishing(_)) | None => None,
    };
    let client_type = settings.client_type.unwrap_or(ClientType::Unspecified.into());
    HeartbeatRequest { group, client_type }
}

struct OpenStream {
    incoming: Streaming<TelemetryCommand>,
    commands: mpsc::Sender<TelemetryCommand>,
    alive: Arc<AtomicBool>,
    identity: Identity,
    client: MessagingServiceClient<Channel>,
    heartbeat: HeartbeatRequest,
}

impl OpenStream {
    async fn run(mut self, timeout: Duration) {
        let mut ticks = tokio::time::interval(HEARTBEAT_INTERVAL);
        ticks.tick().await;
        loop {
            tokio::select! {
                command = self.incoming.message() => match command {
                    Ok(Some(command)) if self.obey(&command) => {}
                    Ok(_) => break,
                    Err(status) => {
                        debug!(%status, "telemetry stream ended");
                        break;
                    }
                },
                _ = ticks.tick() => {
                    let request = self.identity.request(self.heartbeat.clone(), Some(timeout));
                    // A dead connection ends the stream as well, which is noticed there.
                    if let Err(status) = self.client.heartbeat(request).await {
                        debug!(%status, "heartbeat failed");
                    }
                }
            }
        }
        self.alive.store(false, Ordering::Release);
    }

    /// Carries out a command of the server; false when it wants to be connected to anew.
    fn obey(&self, command: &TelemetryCommand) -> bool {
        let answer = match &command.command {
            Some(Command::ReconnectEndpointsCommand(_)) => return false,
            Some(Command::PrintThreadStackTraceCommand(_) | Command::VerifyMessageCommand(_)) => {
                let code = Code::NotImplemented.into();
                let message = "the raftmq command line client does not do this".to_owned();
                TelemetryCommand { status: Some(Status { code, message }), command: None }
            }
            _ => return true,
        };
        // A server that does not read its own stream gets no answer.
        let _answered = self.commands.try_send(answer);
        true
    }
}

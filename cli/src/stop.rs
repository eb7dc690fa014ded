//! When a server is asked to stop.

use std::future::Future;

use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tracing::info;

use crate::exit::Failure;

/// Starts to listen for SIGTERM and Ctrl-C, before anything is started that they should stop.
///
/// The returned future resolves with the first of them; the second one ends the process at once.
pub fn requested() -> Result<impl Future<Output = ()>, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (tell, told) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut tell = Some(tell);
        loop {
            tokio::select! {
                _ = terminate.recv() => info!("SIGTERM received, stopping"),
                _ = interrupt.recv() => info!("interrupted, stopping; once more to stop at once"),
            }
            match tell.take() {
                // An error means that the command has ended meanwhile.
                Some(tell) => drop(tell.send(())),
                // 128 + SIGINT, as shells report it.
                None => std::process::exit(130),
            }
        }
    });
    Ok(async move {
        // The sender is never dropped unused.
        let _told = told.await;
    })
}

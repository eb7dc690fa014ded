//! The connections of a port, for as long as the process lives.
//!
//! A server that is given the errors of `accept` asks for the next connection at once. Without
//! descriptors ("too many open files") that fails at once, again and again: Raft's own threads would
//! spin, and heartbeats be late.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use crate::planted::Bug;
use crate::planted::planted;

/// Pause after a failure: without descriptors an accept fails at once, again and again.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_LONGEST: Duration = Duration::from_secs(1);

/// What `listener` accepts. Never ends and yields no error.
pub(crate) fn connections(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> {
    let listener = Arc::new(listener);
    accepted(move || {
        let listener = listener.clone();
        async move {
            let (stream, _) = listener.accept().await?;
            // Answers are small and wait for nothing.
            stream.set_nodelay(true)?;
            Ok(stream)
        }
    })
}

fn accepted<T, F: Future<Output = io::Result<T>>>(
    accept: impl FnMut() -> F,
) -> impl Stream<Item = io::Result<T>> {
    futures::stream::unfold(accept, async |mut accept| {
        let mut pause = PAUSE_FIRST;
        loop {
            match accept().await {
                Ok(connection) => return Some((Ok(connection), accept)),
                Err(error) if planted(Bug::AcceptErrorSpins) => {
                    count();
                    return Some((Err(error), accept));
                }
                Err(error) => {
                    count();
                    tracing::warn!(%error, ?pause, "could not accept a peer");
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(PAUSE_LONGEST);
                }
            }
        }
    })
}

/// As the ports of clients and operators do.
fn count() {
    metrics::counter!("raftmq_accept_errors_total", "port" => "peer").increment(1);
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn failures_to_accept_are_waited_out() {
        let mut calls = 0;
        let accept = || {
            calls += 1;
            // EMFILE, twice before each connection.
            let fails = calls % 3 != 0;
            let result = if fails { Err(io::Error::from_raw_os_error(24)) } else { Ok(calls) };
            std::future::ready(result)
        };
        let begin = std::time::Instant::now();
        let taken: Vec<io::Result<i32>> = accepted(accept).take(2).collect().await;
        let taken: Vec<i32> = taken.into_iter().filter_map(Result::ok).collect();
        assert_eq!(taken, [3, 6]);
        assert!(begin.elapsed() >= 2 * (PAUSE_FIRST + 2 * PAUSE_FIRST));
    }
}
